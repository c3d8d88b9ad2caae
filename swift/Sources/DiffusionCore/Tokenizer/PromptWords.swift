/// Where words begin in a prompt: after white space, and at each character of Chinese and Japanese.
struct PromptWords {
    private let scalars: [Unicode.Scalar]
    private let starts: [Int]

    init(_ prompt: String) {
        let scalars = Array(prompt.unicodeScalars)
        self.scalars = scalars
        starts = scalars.indices.filter { index in
            guard CharacterKind(scalars[index]) != .space else { return false }
            let isFirst = index == 0 || CharacterKind(scalars[index - 1]) == .space
            return isFirst || Self.isUnspaced(scalars[index])
        }
    }

    var count: Int { starts.count }

    /// The prompt up to a word.
    func text(before word: Int) -> String { string(0..<starts[word]) }

    /// The prompt from a word on, without white space at its end; all of a prompt without words.
    func text(from word: Int) -> String {
        let last = scalars.lastIndex { CharacterKind($0) != .space } ?? scalars.count - 1
        return string((starts.isEmpty ? 0 : starts[word])..<last + 1)
    }

    private func string(_ range: Range<Int>) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars[range])
        return String(view)
    }

    /// Kana and ideographs.
    private static func isUnspaced(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x3041...0x3096, 0x30A1...0x30FA, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0x20000...0x3FFFF: true
        default: false
        }
    }
}
