import Foundation

/// A folder that goes away with the test.
package final class TemporaryFolder: Sendable {
    package let url: URL

    package init() throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    /// - Returns: where the file lies.
    @discardableResult
    package func write(_ path: String, _ content: Data) throws -> URL {
        let file = url.appendingPathComponent(path)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try content.write(to: file)
        return file
    }

    package func write(_ path: String, _ bytes: [UInt8]) throws { try write(path, Data(bytes)) }

    package func write(_ path: String, _ text: String) throws { try write(path, Data(text.utf8)) }
}
