import Foundation

@testable import DiffusionCore

/// PNG files and what Pillow reads from them: `tests/fixtures/image.json`.
struct PNGFixture: Decodable {
    var pictures: [String: Entry]
    /// By a part of the reason.
    var refused: [String: Data]
    var text: [String: String]

    struct Entry: Decodable {
        var png: Data
        /// Height and width.
        var size: [Int]
        var rgb: Data
    }

    static func read() throws -> PNGFixture {
        let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../../../tests/fixtures/image.json").standardizedFileURL
        return try JSONDecoder().decode(Self.self, from: Data(contentsOf: url))
    }
}

/// Numbers that look random and are the same each time.
struct Noise {
    var state: UInt64

    mutating func next(below bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % bound
    }
}
