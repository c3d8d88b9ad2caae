import Foundation

/// Files that came from elsewhere: regular files only, and never more of them than allowed.
///
/// A pipe or a device is refused before it is opened: reading it may never end.
package enum ForeignFile {
    /// Bytes of a regular file.
    ///
    /// - Parameter name: what an error calls it.
    /// - Throws: ``DiffusionError/missingFile(name:)``,
    ///   ``DiffusionError/unusableFile(name:reason:)`` for anything but a regular file.
    @discardableResult
    package static func size(of url: URL, name: String) throws -> Int {
        let values = try? url.resolvingSymlinksInPath().resourceValues(
            forKeys: [.fileSizeKey, .isRegularFileKey])
        guard let values else { throw DiffusionError.missingFile(name: name) }
        guard values.isRegularFile == true, let size = values.fileSize else {
            throw DiffusionError.unusableFile(name: name, reason: "it is not a regular file")
        }
        return size
    }

    /// A whole file of at most `most` bytes.
    ///
    /// - Throws: as ``size(of:name:)``; ``DiffusionError/unusableFile(name:reason:)`` where it is
    ///   larger or cannot be read.
    package static func read(_ url: URL, name: String, most: Int = Limits.textBytes) throws -> Data {
        guard try size(of: url, name: name) <= most else {
            throw DiffusionError.unusableFile(name: name, reason: "it is larger than \(most >> 20) MB")
        }
        guard let data = try? Data(contentsOf: url) else {
            throw DiffusionError.unusableFile(name: name, reason: "it cannot be read")
        }
        return data
    }
}
