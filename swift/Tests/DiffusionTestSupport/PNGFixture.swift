import Foundation

/// PNG files and what Pillow reads from them: `tests/fixtures/image.json`.
package struct PNGFixture: Decodable {
    package var pictures: [String: Entry]
    /// By a part of the reason.
    package var refused: [String: Data]
    package var text: [String: String]

    package struct Entry: Decodable {
        package var png: Data
        /// Height and width.
        package var size: [Int]
        package var rgb: Data
    }

    package static func read() throws -> PNGFixture { try Fixtures.load("image") }
}
