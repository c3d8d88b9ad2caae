/// Words that are found whole wherever they are written: the marks of start and end, the padding,
/// and what was added to the vocabulary.
///
/// As the tokenizers library takes them: those that are not normalized first, in the text as it is
/// written; then the others, in normalized text.
struct AddedTokens: Sendable {
    enum Part {
        /// An added word, and the text that was taken for it.
        case token(id: Int, text: String)
        /// Normalized text.
        case text([Unicode.Scalar])
    }

    private let written: TokenMatcher
    private let normalized: TokenMatcher
    private let contents: [Int: String]

    init(_ tokens: [AddedToken]) {
        written = TokenMatcher(tokens.filter { !$0.normalized }) { Array($0.unicodeScalars) }
        normalized = TokenMatcher(tokens.filter(\.normalized)) { TextNormalizer.normalize($0) }
        contents = Dictionary(tokens.map { ($0.id, $0.content) }) { _, last in last }
    }

    /// The word with an id, as it was added.
    func content(of id: Int) -> String? { contents[id] }

    /// The words and the text between them, in order.
    func split(_ text: String) -> [Part] {
        var parts: [Part] = []
        for piece in written.split(Array(text.unicodeScalars)) {
            guard piece.id == nil else {
                parts.append(piece.part)
                continue
            }
            let rest = TextNormalizer.normalize(String(piece.text))
            parts += normalized.split(rest).map(\.part)
        }
        return parts
    }
}

/// Finds added words in a text: the leftmost first, the longest of those that begin there.
private struct TokenMatcher {
    private struct Pattern {
        let token: AddedToken
        let text: [Unicode.Scalar]
    }

    struct Piece {
        var id: Int?
        var text: String.UnicodeScalarView

        var part: AddedTokens.Part {
            guard let id else { return .text(Array(text)) }
            return .token(id: id, text: String(text))
        }
    }

    /// By their first character, the longest first.
    private let patterns: [Unicode.Scalar: [Pattern]]

    init(_ tokens: [AddedToken], spelling: (String) -> [Unicode.Scalar]) {
        var patterns: [Unicode.Scalar: [Pattern]] = [:]
        for token in tokens {
            let text = spelling(token.content)
            if let first = text.first { patterns[first, default: []].append(Pattern(token: token, text: text)) }
        }
        self.patterns = patterns.mapValues { $0.sorted { $0.text.count > $1.text.count } }
    }

    func split(_ text: [Unicode.Scalar]) -> [Piece] {
        var pieces: [Piece] = []
        var begin = 0
        func append(_ range: Range<Int>, id: Int?) {
            var view = String.UnicodeScalarView()
            view.append(contentsOf: text[range])
            pieces.append(Piece(id: id, text: view))
        }
        var position = 0
        while !patterns.isEmpty, position < text.count {
            guard let pattern = longest(in: text, at: position) else {
                position += 1
                continue
            }
            let match = position..<position + pattern.text.count
            position = match.upperBound
            let token = pattern.token
            if token.singleWord, !isWhole(match, in: text) { continue }
            var start = match.lowerBound
            var end = match.upperBound
            if token.lstrip {
                while start > begin, CharacterKind(text[start - 1]) == .space { start -= 1 }
            }
            if token.rstrip {
                while end < text.count, CharacterKind(text[end]) == .space { end += 1 }
            }
            if begin < start { append(begin..<start, id: nil) }
            append(start..<end, id: token.id)
            begin = end
        }
        if begin < text.count { append(begin..<text.count, id: nil) }
        return pieces
    }

    private func longest(in text: [Unicode.Scalar], at position: Int) -> Pattern? {
        patterns[text[position]]?.first { text[position...].starts(with: $0.text) }
    }

    private func isWhole(_ match: Range<Int>, in text: [Unicode.Scalar]) -> Bool {
        let before = match.lowerBound > 0 && text[match.lowerBound - 1].isOfWord
        let after = match.upperBound < text.count && text[match.upperBound].isOfWord
        return !before && !after
    }
}

extension Unicode.Scalar {
    /// Whether it can be part of a word: `\w` of Unicode's regular expressions.
    fileprivate var isOfWord: Bool {
        if properties.isAlphabetic || properties.isJoinControl { return true }
        switch properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
        default: return false
        }
    }
}
