import Foundation

/// Whether a text is JSON that every reader understands alike.
///
/// Foundation's decoder takes a key that stands twice, and rounds numbers that it cannot hold.
struct JSONCheck {
    /// What is wrong, in a few words.
    struct Refusal: Error {
        let reason: String
    }

    private var cursor: JSONCursor

    /// - Throws: for what is not JSON in UTF-8, a key twice in one table, a number that is not
    ///   finite or beyond 64 bits, and lists and tables deeper in one another than
    ///   ``Limits/nesting``.
    static func check(_ data: Data) throws(Refusal) {
        guard String(data: data, encoding: .utf8) != nil else { throw Refusal(reason: "not UTF-8") }
        var check = JSONCheck(cursor: JSONCursor([UInt8](data)))
        try check.value(depth: 0)
        check.cursor.skipSpace()
        guard check.cursor.next == nil else { throw check.malformed }
    }

    private var malformed: Refusal { Refusal(reason: "not JSON, at byte \(cursor.position)") }

    private mutating func value(depth: Int) throws(Refusal) {
        cursor.skipSpace()
        switch cursor.next {
        case UInt8(ascii: "{"): try table(depth: depth)
        case UInt8(ascii: "["): try list(depth: depth)
        case UInt8(ascii: "\""): _ = try string()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        default: try number()
        }
    }

    private mutating func table(depth: Int) throws(Refusal) {
        try enter("{", depth)
        var keys: Set<String> = []
        if cursor.take("}") { return }
        repeat {
            let key = try string()
            guard keys.insert(key).inserted else {
                throw Refusal(reason: "the key \"\(key)\" stands twice in one table")
            }
            guard cursor.take(":") else { throw malformed }
            try value(depth: depth + 1)
        } while cursor.take(",")
        guard cursor.take("}") else { throw malformed }
    }

    private mutating func list(depth: Int) throws(Refusal) {
        try enter("[", depth)
        if cursor.take("]") { return }
        repeat { try value(depth: depth + 1) } while cursor.take(",")
        guard cursor.take("]") else { throw malformed }
    }

    private mutating func enter(_ bracket: Unicode.Scalar, _ depth: Int) throws(Refusal) {
        guard depth <= Limits.nesting else { throw Refusal(reason: "nested deeper than \(Limits.nesting)") }
        _ = cursor.take(bracket)
    }

    private mutating func string() throws(Refusal) -> String {
        guard let span = cursor.string() else { throw malformed }
        return String(decoding: cursor.text[span], as: UTF8.self)
    }

    private mutating func word(_ word: StaticString) throws(Refusal) {
        for character in word.description.unicodeScalars {
            guard let next = cursor.next, UInt32(next) == character.value else { throw malformed }
            cursor.skip()
        }
    }

    private mutating func number() throws(Refusal) {
        let begin = cursor.position
        if cursor.next == UInt8(ascii: "-") { cursor.skip() }
        let startsWithZero = cursor.next == UInt8(ascii: "0")
        let whole = try digits()
        guard !startsWithZero || whole == 1 else { throw malformed }
        var isWhole = true
        if cursor.next == UInt8(ascii: ".") {
            cursor.skip()
            _ = try digits()
            isWhole = false
        }
        if let next = cursor.next, next | 0x20 == UInt8(ascii: "e") {
            cursor.skip()
            if let sign = cursor.next, [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(sign) { cursor.skip() }
            _ = try digits()
            isWhole = false
        }
        let text = String(decoding: cursor.bytes[begin..<cursor.position], as: UTF8.self)
        if isWhole {
            guard Int64(text) != nil else { throw Refusal(reason: "\(text.prefix(40)) is beyond 64 bits") }
        } else {
            guard let value = Double(text), value.isFinite else {
                throw Refusal(reason: "\(text.prefix(40)) is beyond all numbers")
            }
        }
    }

    /// How many; at least one.
    private mutating func digits() throws(Refusal) -> Int {
        let begin = cursor.position
        while let next = cursor.next, (0x30...0x39).contains(next) { cursor.skip() }
        guard cursor.position > begin else { throw malformed }
        return cursor.position - begin
    }
}
