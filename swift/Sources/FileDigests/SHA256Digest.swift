import Foundation

/// SHA-256 of bytes and files, in hex: the system's where it has one.
package enum SHA256Digest {
    /// Bytes that are read at a time.
    static let chunk = 1 << 20

    package static func hex(of bytes: [UInt8]) -> String {
        var hasher = SystemSHA256()
        bytes.withUnsafeBytes { hasher.update($0) }
        return hex(hasher.digest())
    }

    /// Read a file piece by piece, in constant memory.
    ///
    /// - Parameter read: told the bytes of each piece.
    /// - Throws: what opening and reading throw; `CancellationError` between pieces.
    package static func hex(ofFile url: URL, read: (Int) -> Void = { _ in }) throws -> String {
        let file = try FileHandle(forReadingFrom: url)
        defer { try? file.close() }
        var hasher = SystemSHA256()
        while let count = try update(&hasher, from: file) {
            read(count)
            try Task.checkCancellation()
        }
        return hex(hasher.digest())
    }

    private static func update(_ hasher: inout SystemSHA256, from file: FileHandle) throws -> Int? {
        try pooled {
            guard let data = try file.read(upToCount: chunk), !data.isEmpty else { return nil }
            data.withUnsafeBytes { hasher.update($0) }
            return data.count
        }
    }

    /// Objective-C frees what reading leaves behind only when a pool ends.
    private static func pooled<Result>(_ body: () throws -> Result) rethrows -> Result {
        #if canImport(ObjectiveC)
        try autoreleasepool(invoking: body)
        #else
        try body()
        #endif
    }

    static func hex(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef")
        return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }
}
