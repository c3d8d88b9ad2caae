import Foundation
import Testing

@testable import DiffusionCore

@Suite("CLIPTokenizer gives the tokens of transformers")
struct CLIPTokenizerTests {
    @Test("in the demo's vocabulary")
    func demo() throws {
        try expectAgreement(TokenizerFixture.read("tokenizer"), folder: TokenizerFixture.demoFolder)
    }

    @Test(
        "in OpenAI CLIP's vocabulary",
        .enabled(
            if: TokenizerFixture.hasCLIP,
            "CLIP's vocabulary is not in the cache; run scripts/clip_vocabulary"))
    func clip() throws {
        try expectAgreement(
            TokenizerFixture.read("tokenizer_clip"), folder: TokenizerFixture.clipFolder)
    }

    @Test("where a word of the vocabulary is the padding")
    func padding() throws {
        let fixture = try TokenizerFixture.read("tokenizer_padding")
        let plain = try TokenizerFixture.read("tokenizer")
        try expectAgreement(fixture, folder: TokenizerFixture.demoFolder)
        #expect(fixture.ids != plain.ids && fixture.facts.padTokenID != plain.facts.padTokenID)
        let second = try CLIPTokenizer(folder: TokenizerFixture.demoFolder, facts: plain.facts)
            .with(fixture.facts)
        #expect(second.encode("a cat!") == second.encode("a cat") + [fixture.facts.padTokenID])
    }

    @Test("where words were added", arguments: ["tokenizer_added", "tokenizer_published"])
    func addedWords(name: String) throws {
        var fixture = try TokenizerFixture.read(name)
        try expectAgreement(fixture, folder: TokenizerFixture.demoFolder)
        #expect(try #require(fixture.expanded).count > 20 && fixture.cut.count > 20)
        // Without the added words most prompts have other ids.
        fixture.facts.addedTokens = nil
        let plain = try CLIPTokenizer(folder: TokenizerFixture.demoFolder, facts: fixture.facts)
        let equal = try zip(#require(fixture.prompts), fixture.ids).filter { plain.encode($0) == $1 }
        #expect(equal.count < fixture.ids.count / 2)
    }

    @Test("Added words are read and written as the manifest has them")
    func manifest() throws {
        let facts = try TokenizerFixture.read("tokenizer_added").facts
        let words = try #require(facts.addedTokens)
        #expect(words.contains { $0.lstrip && !$0.rstrip && $0.special })
        #expect(words.contains { $0.singleWord && $0.normalized })
        let written = try JSONEncoder().encode(facts)
        #expect(try JSONDecoder().decode(TokenizerFacts.self, from: written) == facts)
        let plain = try JSONEncoder().encode(TokenizerFacts(bosTokenID: 0, eosTokenID: 1, padTokenID: 1))
        #expect(!String(decoding: plain, as: UTF8.self).contains("added_tokens"))
    }

    private func expectAgreement(_ fixture: TokenizerFixture, folder: URL) throws {
        let prompts = try fixture.prompts ?? TokenizerFixture.prompts()
        let tokenizer = try CLIPTokenizer(folder: folder, facts: fixture.facts)
        try #require(prompts.count == fixture.ids.count && prompts.count > 400)
        for (index, prompt) in prompts.enumerated() {
            #expect(tokenizer.encode(prompt) == fixture.ids[index], "\(index): \(prompt.prefix(80))")
            if let text = fixture.decoded?[index] {
                #expect(scalars(tokenizer.decode(fixture.ids[index])) == scalars(text), "\(index): \(text)")
            }
            let ids = fixture.expanded?[String(index)] ?? fixture.ids[index]
            let framed = tokenizer.frame(prompt)
            let padding = Array(repeating: fixture.facts.padTokenID, count: max(0, 75 - ids.count))
            let whole = [fixture.facts.bosTokenID] + ids.prefix(75) + [fixture.facts.eosTokenID]
            #expect(framed.ids == whole + padding, "\(index): \(prompt.prefix(80))")
            let cut = fixture.cut[String(index)] ?? ""
            #expect(scalars(framed.cut) == scalars(cut), "\(index): \(cut.prefix(80))")
        }
    }

    /// Strings are equal in Swift when they look the same; these must be the same characters.
    private func scalars(_ text: String) -> [Unicode.Scalar] { Array(text.unicodeScalars) }

    @Test("A wrong rank, a wrong word's end or a wrong case would be seen")
    func control() throws {
        let folder = try TokenizerFolder(copying: TokenizerFixture.demoFolder)
        defer { folder.remove() }
        let fixture = try TokenizerFixture.read("tokenizer")
        let prompts = try TokenizerFixture.prompts()
        let merges = try folder.text("merges.txt").split(separator: "\n").map(String.init)
        try folder.write(
            ([merges[0]] + merges.dropFirst().reversed()).joined(separator: "\n"), to: "merges.txt")
        let tokenizer = try CLIPTokenizer(folder: folder.url, facts: fixture.facts)
        let equal = zip(prompts, fixture.ids).filter { tokenizer.encode($0) == $1 }.count
        #expect(equal < prompts.count)
    }

    @Test("Characters: kind, lower case and composition, all of Unicode")
    func characters() throws {
        let fixture = try TokenizerFixture.read("tokenizer")
        let runs = try #require(fixture.kinds)
        let names: [CharacterKind: String] = [.letter: "L", .number: "N", .space: "S", .other: "O"]
        var run = 0
        var wrong: [String] = []
        for value in UInt32(0)...0x10FFFF {
            guard let scalar = Unicode.Scalar(value) else { continue }
            if run + 1 < runs.count, runs[run + 1].first <= value { run += 1 }
            // What this system's Unicode does not have yet cannot be known here.
            guard scalar.properties.age != nil else { continue }
            if names[CharacterKind(scalar)] != runs[run].kind { wrong.append(String(value, radix: 16)) }
        }
        #expect(wrong.isEmpty)
        for (table, name) in [(fixture.lowercase, "lower case"), (fixture.composed, "composed")] {
            for entry in try #require(table) {
                let scalar = try #require(Unicode.Scalar(entry[0]))
                guard scalar.properties.age != nil else { continue }
                let mapped =
                    name == "composed"
                    ? CanonicalComposition.of(String(Character(scalar)))
                    : scalar.properties.lowercaseMapping
                #expect(mapped.unicodeScalars.map(\.value) == Array(entry[1...]), "\(name) \(entry)")
            }
        }
    }

    @Test("A long word without spaces takes no quadratic time")
    func longWord() throws {
        let fixture = try TokenizerFixture.read("tokenizer")
        let tokenizer = try CLIPTokenizer(folder: TokenizerFixture.demoFolder, facts: fixture.facts)
        func seconds(_ count: Int) -> Double {
            let word = String(repeating: "猫", count: count)
            let begun = Self.processorSeconds()
            let ids = tokenizer.encode(word)
            let taken = Self.processorSeconds() - begun
            #expect(tokenizer.decode(ids) == word)
            return taken
        }
        // A fifth of it takes a fifth of the time; were it quadratic, a 25th.
        #expect(seconds(20_000) < 12 * seconds(4_000))
    }

    /// Of this thread, whatever else the machine does.
    private static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
