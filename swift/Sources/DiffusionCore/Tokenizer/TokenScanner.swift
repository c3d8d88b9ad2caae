/// Reads one JSON object of tokens and their ids. A general JSON reader takes many times as long.
struct TokenScanner {
    private var cursor: JSONCursor

    init(bytes: [UInt8]) { cursor = JSONCursor(bytes) }

    /// nil where it is anything else than an object of whole numbers, or holds a token twice.
    mutating func table() -> TokenTable? {
        var entries: [(span: Range<Int>, id: Int)] = []
        guard cursor.take("{") else { return nil }
        if !cursor.take("}") {
            repeat {
                guard let span = cursor.string(), cursor.take(":"), let id = number() else { return nil }
                entries.append((span, id))
            } while cursor.take(",")
            guard cursor.take("}") else { return nil }
        }
        cursor.skipSpace()
        guard cursor.next == nil else { return nil }
        return TokenTable(text: cursor.text, entries: entries)
    }

    private mutating func number() -> Int? {
        cursor.skipSpace()
        var value = 0
        let begin = cursor.position
        while let digit = cursor.next, (0x30...0x39).contains(digit) {
            value = 10 * value + Int(digit - 0x30)
            guard value <= Limits.tokenID else { return nil }
            cursor.skip()
        }
        return cursor.position > begin ? value : nil
    }
}
