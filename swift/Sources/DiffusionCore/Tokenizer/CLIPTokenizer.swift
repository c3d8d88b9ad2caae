import Foundation

/// CLIP's byte-pair tokenizer: the same tokens as transformers' `CLIPTokenizer`.
public struct CLIPTokenizer: Sendable {
    /// Special ids and the length that prompts are framed to.
    public let facts: TokenizerFacts

    private let vocabulary: Vocabulary
    /// The word of the padding, where that is not one of the two marks.
    private let padding: [Unicode.Scalar]

    /// Reads `vocab.json` and `merges.txt` in a folder, such as a bundle.
    ///
    /// - Throws: ``DiffusionError/missingFile(name:)``, ``DiffusionError/corruptedFile(name:)``;
    ///   ``DiffusionError/corruptedManifest(reason:)`` where the length leaves no room for a prompt.
    public init(folder: URL, facts: TokenizerFacts) throws {
        try Self.check(facts)
        self.init(vocabulary: try VocabularyReader(folder: folder).read(), facts: facts)
    }

    init(vocabulary: Vocabulary, facts: TokenizerFacts) {
        self.vocabulary = vocabulary
        self.facts = facts
        let isMark = [vocabulary.start, vocabulary.end].contains(facts.padTokenID)
        let word = isMark ? [] : vocabulary.bytes(of: facts.padTokenID)
        padding = Array(String(decoding: word, as: UTF8.self).unicodeScalars)
    }

    /// The same words for another text encoder.
    ///
    /// - Throws: ``DiffusionError/corruptedManifest(reason:)`` as for the first.
    func with(_ facts: TokenizerFacts) throws -> CLIPTokenizer {
        try Self.check(facts)
        return CLIPTokenizer(vocabulary: vocabulary, facts: facts)
    }

    private static func check(_ facts: TokenizerFacts) throws {
        guard facts.maxTokens >= 2 else {
            throw DiffusionError.corruptedManifest(
                reason: "tokenizer.max_tokens is \(facts.maxTokens)")
        }
    }

    /// Ids of a text, without start, end or padding.
    ///
    /// `<|startoftext|>`, `<|endoftext|>` and the word of the padding, wherever they are written in
    /// the text, become the special tokens: a model that pads with `!` was trained with the same id
    /// for the mark in a prompt.
    public func encode(_ text: String) -> [Int] {
        var ids: [Int] = []
        var merger = BytePairMerger(vocabulary: vocabulary)
        for part in SpecialTokens.split(text, padding: padding) {
            switch part {
            case .start: ids.append(vocabulary.start)
            case .end: ids.append(vocabulary.end)
            case .padding: ids.append(facts.padTokenID)
            case .text(let text):
                WordSplitter.forEachWord(of: text) { merger.append(word: $0, to: &ids) }
            }
        }
        return ids
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

    /// Start token, the prompt, end token, padding; `cut` is the text of the tokens that do not
    /// fit, empty where all do.
    public func frame(_ prompt: String) -> (ids: [Int], cut: String) {
        let tokens = encode(prompt)
        let kept = tokens.prefix(facts.maxTokens - 2)
        var ids = [facts.bosTokenID] + kept + [facts.eosTokenID]
        ids += Array(repeating: facts.padTokenID, count: facts.maxTokens - ids.count)
        return (ids, decode(tokens.dropFirst(kept.count)))
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
