/// The marks of start and end and the word of the padding, as they can be written in a prompt.
enum SpecialTokens {
    static let start = Array("<|startoftext|>".unicodeScalars)
    static let end = Array("<|endoftext|>".unicodeScalars)

    enum Part {
        case text(String)
        case start, end, padding
    }

    /// The text between the marks, and the marks, in order. Only this exact spelling is a mark.
    ///
    /// - Parameter padding: empty where it is one of the marks.
    static func split(_ text: String, padding: [Unicode.Scalar] = []) -> [Part] {
        guard text.utf8.contains(UInt8(ascii: "|")) || !padding.isEmpty else { return [.text(text)] }
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
            guard let mark = mark(in: scalars, at: position, padding: padding) else {
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
    static func mark(
        in scalars: [Unicode.Scalar], at position: Int, padding: [Unicode.Scalar] = []
    ) -> (part: Part, length: Int)? {
        let rest = scalars[position...]
        if !padding.isEmpty, rest.starts(with: padding) { return (.padding, padding.count) }
        guard scalars[position] == "<" else { return nil }
        if rest.starts(with: start) { return (.start, start.count) }
        if rest.starts(with: end) { return (.end, end.count) }
        return nil
    }
}
