/// What a character is to the tokenizer.
enum CharacterKind: UInt8, Sendable {
    case letter, number, space, other

    /// The newest version of Unicode whose letters and numbers the original knows. An operating
    /// system with an older one takes characters that are newer to it for `other`.
    private static let newestUnicode = (major: 16, minor: 0)

    init(_ scalar: Unicode.Scalar) {
        self = scalar.isASCII ? Self.ascii(scalar) : Self.beyondASCII(scalar)
    }

    private static func ascii(_ scalar: Unicode.Scalar) -> CharacterKind {
        switch scalar {
        case "a"..."z", "A"..."Z": .letter
        case "0"..."9": .number
        case "\t"..."\r", " ": .space
        default: .other
        }
    }

    private static func beyondASCII(_ scalar: Unicode.Scalar) -> CharacterKind {
        let properties = scalar.properties
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            return isKnown(properties) ? .letter : .other
        case .decimalNumber, .letterNumber, .otherNumber:
            return isKnown(properties) ? .number : .other
        default: return properties.isWhitespace ? .space : .other
        }
    }

    private static func isKnown(_ properties: Unicode.Scalar.Properties) -> Bool {
        guard let age = properties.age else { return false }
        return (age.major, age.minor) <= newestUnicode
    }
}
