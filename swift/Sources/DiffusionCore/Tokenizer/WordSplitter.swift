/// Cuts a text into the words that byte pairs are merged in: runs of letters, single digits, runs of
/// other characters; English contractions by themselves.
enum WordSplitter {
    private static let marks = [Vocabulary.startMark, Vocabulary.endMark].map { Array($0.unicodeScalars) }

    /// Calls `body` with the UTF-8 of each word in order.
    ///
    /// - Parameter scalars: normalized text.
    static func forEachWord(of scalars: [Unicode.Scalar], _ body: ([UInt8]) -> Void) {
        let kinds = scalars.map(CharacterKind.init)
        var word: [UInt8] = []
        var position = 0
        func emit(_ length: Int) {
            if kinds[position] != .space {
                word.removeAll(keepingCapacity: true)
                for scalar in scalars[position..<position + length] {
                    word.append(contentsOf: scalar.utf8)
                }
                body(word)
            }
            position += length
        }
        while position < scalars.count {
            // <|EndOfText|> may be no added word, but in lower case it parts words like one.
            if scalars[position] == "<", let mark = marks.first(where: { scalars[position...].starts(with: $0) }) {
                emit(2)
                emit(mark.count - 4)
                emit(2)
            } else {
                emit(wordLength(scalars, kinds, at: position))
            }
        }
    }

    /// Characters of the word (or run of spaces) that begins at a position.
    private static func wordLength(
        _ scalars: [Unicode.Scalar], _ kinds: [CharacterKind], at position: Int
    ) -> Int {
        if let length = contractionLength(scalars, at: position) { return length }
        let kind = kinds[position]
        guard kind != .number else { return 1 }
        var end = position + 1
        while end < kinds.count, kinds[end] == kind { end += 1 }
        return end - position
    }

    /// `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`.
    private static func contractionLength(_ scalars: [Unicode.Scalar], at position: Int) -> Int? {
        guard scalars[position] == "'", position + 1 < scalars.count else { return nil }
        switch scalars[position + 1] {
        case "s", "t", "m", "d": return 2
        case "r", "v":
            return position + 2 < scalars.count && scalars[position + 2] == "e" ? 3 : nil
        case "l":
            return position + 2 < scalars.count && scalars[position + 2] == "l" ? 3 : nil
        default: return nil
        }
    }
}
