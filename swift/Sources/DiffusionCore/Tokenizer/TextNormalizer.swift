/// What the tokenizer makes of a text first: composed (NFC), one space for each run of white space,
/// lower case.
enum TextNormalizer {
    static func normalize(_ text: String) -> [Unicode.Scalar] {
        let composed = CanonicalComposition.of(text)
        var scalars: [Unicode.Scalar] = []
        scalars.reserveCapacity(composed.utf8.count)
        var isAfterSpace = false
        for scalar in composed.unicodeScalars {
            let isSpace = CharacterKind(scalar) == .space
            defer { isAfterSpace = isSpace }
            if isSpace {
                if !isAfterSpace { scalars.append(" ") }
            } else {
                appendLowercase(scalar, to: &scalars)
            }
        }
        return scalars
    }

    /// Each character's lower case by itself (no final sigma, as the original does it).
    private static func appendLowercase(_ scalar: Unicode.Scalar, to scalars: inout [Unicode.Scalar]) {
        if scalar.isASCII {
            let isUpper = (0x41...0x5A).contains(scalar.value)
            scalars.append(isUpper ? Unicode.Scalar(UInt8(scalar.value) + 0x20) : scalar)
        } else {
            scalars.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
        }
    }
}
