import DiffusionCore
import Foundation

/// The first bytes of a .tflite. LiteRT checks the tables behind them itself.
enum TFLiteHeader {
    /// - Throws: ``DiffusionError/missingFile(name:)``, ``DiffusionError/corruptedFile(name:)``.
    static func check(_ url: URL) throws {
        let name = url.lastPathComponent
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), !isFolder.boolValue,
            let file = try? FileHandle(forReadingFrom: url)
        else { throw DiffusionError.missingFile(name: name) }
        defer { try? file.close() }
        guard let size = try? file.seekToEnd(), (try? file.seek(toOffset: 0)) != nil,
            let start = try? file.read(upToCount: 8), isPlausible([UInt8](start), size: size)
        else { throw DiffusionError.corruptedFile(name: name) }
    }

    /// A root table inside the file, and TFLite's mark.
    static func isPlausible(_ start: [UInt8], size: UInt64) -> Bool {
        guard start.count == 8, start[4...].elementsEqual("TFL3".utf8) else { return false }
        let root = start[..<4].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return root >= 8 && root + 4 <= size
    }
}
