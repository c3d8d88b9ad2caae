import Foundation
import Testing

@testable import DiffusionCore

@Suite("A vocabulary that cannot be right is refused by the name of its file")
struct VocabularyReaderTests {
    let facts = TokenizerFacts(bosTokenID: 1404, eosTokenID: 1405, padTokenID: 1405)

    @Test("missing", arguments: ["vocab.json", "merges.txt"])
    func missing(name: String) throws {
        let folder = try TokenizerFolder(copying: TokenizerFixture.demoFolder)
        defer { folder.remove() }
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent(name))
        #expect(throws: DiffusionError.missingFile(name: name)) {
            try CLIPTokenizer(folder: folder.url, facts: facts)
        }
    }

    @Test(
        "vocab.json that is no object of tokens",
        arguments: [
            "", "{", "[]", "{}", "null", #"{"a": 1"#, #"{"a" 1}"#, #"{"a": -1}"#, #"{"a": 1.5}"#,
            #"{"a": "1"}"#, #"{"a": 1,}"#, #"{"a": 1} x"#, #"{"a": 99999999999999999999}"#,
            #"{"\u12": 1}"#, #"{"\ud83d": 1}"#, #"{"\x": 1}"#, #"{"a": 1, "a": 2}"#, #"{"a": 1, "\u0061": 2}"#, #"{"a": {}}"#, "{\"a\n\": 1}",
        ])
    func vocabulary(text: String) throws {
        let folder = try TokenizerFolder(copying: TokenizerFixture.demoFolder)
        defer { folder.remove() }
        try folder.write(text, to: "vocab.json")
        #expect(throws: DiffusionError.self) { try CLIPTokenizer(folder: folder.url, facts: facts) }
    }

    @Test("merges.txt of tokens that are not there", arguments: ["zebra unicorn", "a", "a b c d", " a"])
    func merges(line: String) throws {
        let folder = try TokenizerFolder(copying: TokenizerFixture.demoFolder)
        defer { folder.remove() }
        try folder.write(folder.text("merges.txt") + line + "\n", to: "merges.txt")
        let error = #expect(throws: DiffusionError.self) {
            try CLIPTokenizer(folder: folder.url, facts: facts)
        }
        #expect(error?.description.hasPrefix("merges.txt cannot be used") == true)
    }

    @Test("cut at any byte: an error or a smaller vocabulary, never a crash")
    func truncated() throws {
        let folder = try TokenizerFolder(copying: TokenizerFixture.demoFolder)
        defer { folder.remove() }
        let whole = try Data(contentsOf: folder.url.appendingPathComponent("vocab.json"))
        for length in stride(from: 0, to: whole.count, by: 487) {
            try whole.prefix(length).write(to: folder.url.appendingPathComponent("vocab.json"))
            let error = #expect(throws: DiffusionError.self) {
                try CLIPTokenizer(folder: folder.url, facts: facts)
            }
            #expect(error?.description.hasPrefix("vocab.json cannot be used") == true)
        }
    }

    @Test("Other spellings of the same JSON and other line ends are read alike")
    func spellings() throws {
        let folder = try TokenizerFolder(copying: TokenizerFixture.demoFolder)
        defer { folder.remove() }
        let plain = try CLIPTokenizer(folder: folder.url, facts: facts)
        let table = try JSONDecoder().decode(
            [String: Int].self, from: Data(folder.text("vocab.json").utf8))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted]
        try encoder.encode(table).write(to: folder.url.appendingPathComponent("vocab.json"))
        try folder.write(
            folder.text("merges.txt").replacingOccurrences(of: "\n", with: "\r\n"), to: "merges.txt")
        let respelled = try CLIPTokenizer(folder: folder.url, facts: facts)
        for prompt in try TokenizerFixture.prompts().prefix(100) {
            #expect(respelled.encode(prompt) == plain.encode(prompt))
        }
    }

    /// Each word's embeddings hold the other words, so that each would multiply what was there.
    @Test("Words of many embeddings within one another do not fill the memory")
    func multiplied() {
        let words = ["a", "_", "1", "2", "3"]
        let contents = words + words.flatMap { word in (1...300).map { "\(word)_\($0)" } }
        let expanded = PromptExpansion(contents: contents).expand("a _ 1 2 3", tokens: words)
        #expect(expanded.utf8.count < 10 << 20)
        #expect(PromptExpansion(contents: contents).expand("a", tokens: ["a"]).hasPrefix("a a_1 a_2"))
    }

    @Test("A length without room for the marks of start and end")
    func noRoom() {
        let facts = TokenizerFacts(bosTokenID: 0, eosTokenID: 1, padTokenID: 1, maxTokens: 1)
        #expect(throws: DiffusionError.self) {
            try CLIPTokenizer(folder: TokenizerFixture.demoFolder, facts: facts)
        }
    }
}

/// A copy of a tokenizer that a test may damage.
struct TokenizerFolder {
    let url: URL

    init(copying source: URL) throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        for name in ["vocab.json", "merges.txt"] {
            try Data(contentsOf: source.appendingPathComponent(name))
                .write(to: url.appendingPathComponent(name))
        }
    }

    func text(_ name: String) throws -> String {
        try String(contentsOf: url.appendingPathComponent(name), encoding: .utf8)
    }

    func write(_ text: String, to name: String) throws {
        try Data(text.utf8).write(to: url.appendingPathComponent(name))
    }

    func remove() { try? FileManager.default.removeItem(at: url) }
}
