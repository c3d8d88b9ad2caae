/// The marks of start and end, as they can be written in a prompt.
enum SpecialTokens {
    static let start = Array("<|startoftext|>".unicodeScalars)
    static let end = Array("<|endoftext|>".unicodeScalars)

    enum Part {
        case text(String)
        case start, end
    }

    /// The text between the marks, and the marks, in order. Only this exact spelling is a mark.
    static func split(_ text: String) -> [Part] {
        guard text.utf8.contains(UInt8(ascii: "|")) else { return [.text(text)] }
        let scalars = Array(text.unicodeScalars)
        var parts: [Part] = []
        var begin = 0
        var position = 0
        func textPart() -> Part {
            var view = String.UnicodeScalarView()
            view.append(contentsOf: scalars[begin..<position])
            return .text(String(view))
        }
        while position < scalars.count {
            guard let mark = mark(in: scalars, at: position) else {
                position += 1
                continue
            }
            parts.append(textPart())
            parts.append(mark.part)
            position += mark.length
            begin = position
        }
        parts.append(textPart())
        return parts
    }

    /// The mark that begins at a position, and its length.
    static func mark(in scalars: [Unicode.Scalar], at position: Int) -> (part: Part, length: Int)? {
        guard scalars[position] == "<" else { return nil }
        let rest = scalars[position...]
        if rest.starts(with: start) { return (.start, start.count) }
        if rest.starts(with: end) { return (.end, end.count) }
        return nil
    }
}
