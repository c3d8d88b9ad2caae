import DiffusionTestSupport
import Foundation
import Testing

@testable import DiffusionCore

/// What transformers' tokenizer makes of the prompts: `tests/fixtures/tokenizer*.json`.
struct TokenizerFixture: Decodable {
    /// Those of tokenizer.json where there are none.
    var prompts: [String]?
    var facts: TokenizerFacts
    var ids: [[Int]]
    /// By the prompt's index: where words of several embeddings change the prompt first.
    var expanded: [String: [Int]]?
    var decoded: [String?]?
    /// By the prompt's index.
    var cut: [String: String]
    /// In tokenizer.json only: all of Unicode.
    var kinds: [Run]?
    var lowercase: [[UInt32]]?
    var composed: [[UInt32]]?

    struct Run: Decodable {
        var first: UInt32
        var kind: String

        init(from decoder: any Decoder) throws {
            var container = try decoder.unkeyedContainer()
            first = try container.decode(UInt32.self)
            kind = try container.decode(String.self)
        }
    }

    static let demoFolder = Fixtures.repository.appendingPathComponent("coreml_sd/models/demo/tokenizer")

    /// Where `scripts/clip_vocabulary` puts OpenAI CLIP's vocabulary.
    static let clipFolder: URL = {
        let environment = ProcessInfo.processInfo.environment
        if let folder = environment["CLIP_VOCABULARY"] { return URL(fileURLWithPath: folder) }
        let cache =
            environment["COREML_SD_CACHE"].map { URL(fileURLWithPath: $0) }
            ?? URL(fileURLWithPath: NSHomeDirectory()).appendingPathComponent(".cache/coreml-sd")
        return cache.appendingPathComponent("clip-vocabulary")
    }()

    static var hasCLIP: Bool {
        FileManager.default.fileExists(atPath: clipFolder.appendingPathComponent("vocab.json").path)
    }

    static func read(_ name: String) throws -> TokenizerFixture { try Fixtures.load(name) }

    /// The prompts of both vocabularies.
    static func prompts() throws -> [String] {
        try #require(try read("tokenizer").prompts)
    }
}
