import Foundation

/// The fixtures that Python's tests and Swift's share: `tests/fixtures`.
package enum Fixtures {
    package static let folder = repository.appendingPathComponent("tests/fixtures")

    /// The first folder above this file that holds the fixtures.
    package static let repository: URL = {
        var folder = URL(fileURLWithPath: #filePath)
        while folder.path != "/" {
            folder.deleteLastPathComponent()
            let fixtures = folder.appendingPathComponent("tests/fixtures/image.json")
            if FileManager.default.fileExists(atPath: fixtures.path) { return folder }
        }
        fatalError("no tests/fixtures above \(#filePath)")
    }()

    /// - Parameter name: of a file in the folder, without `.json`.
    package static func load<Value: Decodable>(_ name: String, as type: Value.Type = Value.self) throws -> Value {
        try JSONDecoder().decode(type, from: Data(contentsOf: folder.appendingPathComponent("\(name).json")))
    }

    /// Byte i is (7 i + 3) mod 251, as in scripts/fixtures/sha256.py.
    package static func pattern(_ length: Int) -> [UInt8] { (0..<length).map { UInt8((7 * $0 + 3) % 251) } }
}
