import Foundation

/// CLIP's byte-pair tokenizer: the same tokens as transformers' `CLIPTokenizer`.
public struct CLIPTokenizer: Sendable {
    /// Special ids and the length that prompts are framed to.
    public let facts: TokenizerFacts

    private let vocabulary: Vocabulary
    private let added: AddedTokens
    private let expansion: PromptExpansion

    /// Reads `vocab.json` and `merges.txt` in a folder, such as a bundle.
    ///
    /// - Throws: ``DiffusionError/missingFile(name:)``, ``DiffusionError/unusableFile(name:reason:)``;
    ///   ``DiffusionError/corruptedManifest(reason:)`` where the length leaves no room for a prompt, or
    ///   is beyond ``Limits/maxTokens``.
    public init(folder: URL, facts: TokenizerFacts) throws {
        try Self.check(facts)
        self.init(vocabulary: try VocabularyReader(folder: folder).read(), facts: facts)
    }

    init(vocabulary: Vocabulary, facts: TokenizerFacts) {
        self.vocabulary = vocabulary
        self.facts = facts
        let tokens = facts.addedTokens ?? Self.plainTokens(vocabulary, facts)
        added = AddedTokens(tokens)
        expansion = PromptExpansion(contents: tokens.map(\.content))
    }

    /// Where the facts list none: both marks, and the word of the padding.
    private static func plainTokens(_ vocabulary: Vocabulary, _ facts: TokenizerFacts) -> [AddedToken] {
        let ids = [vocabulary.start, vocabulary.end, facts.padTokenID]
        return Set(ids).map { AddedToken(content: vocabulary.token(of: $0), id: $0, special: true) }
    }

    /// The same words for another text encoder.
    ///
    /// - Throws: ``DiffusionError/corruptedManifest(reason:)`` as for the first.
    func with(_ facts: TokenizerFacts) throws -> CLIPTokenizer {
        try Self.check(facts)
        return CLIPTokenizer(vocabulary: vocabulary, facts: facts)
    }

    private static func check(_ facts: TokenizerFacts) throws {
        guard (2...Limits.maxTokens).contains(facts.maxTokens) else {
            throw DiffusionError.corruptedManifest(
                reason: "tokenizer.max_tokens is \(facts.maxTokens), not between 2 and \(Limits.maxTokens)")
        }
    }

    /// Ids of a text, without start, end or padding.
    ///
    /// Added words, the marks and the padding among them, are found wherever they are written.
    public func encode(_ text: String) -> [Int] { tokens(of: text).map(\.id) }

    /// Each token's id, and for an added word the text that was taken for it.
    private func tokens(of text: String) -> [(id: Int, text: String?)] {
        var tokens: [(id: Int, text: String?)] = []
        var merger = BytePairMerger(vocabulary: vocabulary)
        var ids: [Int] = []
        for part in added.split(text) {
            switch part {
            case .token(let id, let text): tokens.append((id, text))
            case .text(let text):
                ids.removeAll(keepingCapacity: true)
                WordSplitter.forEachWord(of: text) { merger.append(word: $0, to: &ids) }
                tokens += ids.map { ($0, added.content(of: $0)) }
            }
        }
        return tokens
    }

    /// The text of ids: lower case, a space after each word. Ids that the vocabulary lacks are
    /// passed over; parts of a character become U+FFFD.
    public func decode(_ ids: some Sequence<Int>) -> String {
        var bytes: [UInt8] = []
        for id in ids { bytes += vocabulary.bytes(of: id) }
        let text = String(decoding: Self.spaced(bytes), as: UTF8.self).unicodeScalars
        guard let first = text.firstIndex(where: { !Self.isStripped($0) }),
            let last = text.lastIndex(where: { !Self.isStripped($0) })
        else { return "" }
        return String(text[first...last])
    }

    /// Start token, the prompt, end token, padding; `cut` is the text that does not fit, empty where
    /// all does.
    ///
    /// The ids are those that diffusers' pipelines give their text encoder. `cut` begins with the
    /// whole of the word that the cut goes through. A word is what stands between spaces; in Chinese
    /// and Japanese any character begins one.
    public func frame(_ prompt: String) -> (ids: [Int], cut: String) {
        let tokens = body(prompt)
        let kept = tokens.prefix(facts.maxTokens - 2)
        var ids = [facts.bosTokenID] + kept + [facts.eosTokenID]
        ids += Array(repeating: facts.padTokenID, count: facts.maxTokens - ids.count)
        return (ids, kept.count < tokens.count ? cut(prompt, at: kept.count) : "")
    }

    /// Ids without framing, all those of a word with several embeddings among them.
    private func body(_ prompt: String) -> [Int] {
        guard expansion.isNeeded else { return encode(prompt) }
        return encode(expansion.expand(prompt, tokens: tokens(of: prompt).compactMap(\.text)))
    }

    /// The prompt from its last word on that has no more than `kept` tokens before it.
    private func cut(_ prompt: String, at kept: Int) -> String {
        let words = PromptWords(prompt)
        var first = 0
        var last = words.count - 1
        while first < last {
            let middle = (first + last + 1) / 2
            if body(words.text(before: middle)).count <= kept { first = middle } else { last = middle - 1 }
        }
        return words.text(from: first)
    }

    /// With a space for each mark of a word's end.
    private static func spaced(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        for byte in bytes {
            result.append(byte)
            guard byte == Vocabulary.wordEnd.last, result.ends(with: Vocabulary.wordEnd) else { continue }
            result.removeLast(Vocabulary.wordEnd.count)
            result.append(UInt8(ascii: " "))
        }
        return result
    }

    /// What Python's `str.strip` takes off: white space and the four separators of ASCII.
    private static func isStripped(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
    }
}

extension [UInt8] {
    fileprivate func ends(with suffix: [UInt8]) -> Bool {
        count >= suffix.count && self[(count - suffix.count)...].elementsEqual(suffix)
    }
}
