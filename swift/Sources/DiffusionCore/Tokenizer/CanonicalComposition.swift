import Foundation

/// Unicode's normal form C, as the original knows it.
enum CanonicalComposition {
    /// The version of Unicode whose compositions and orders of marks the original knows. Newer
    /// characters stay as they are, and so does the order of what is on either side of them.
    private static let newestUnicode = (major: 9, minor: 0)

    /// Swift 6.3 swallows this filler of Hangul behind a syllable; it never composes.
    private static let filler: Unicode.Scalar = "\u{11A7}"

    /// Swift 6.3 composes marks with characters above it as with others (U+E0041 as with A). Nothing
    /// up there composes; some become another character.
    private static let lastBase: UInt32 = 0x1FFFF

    static func of(_ text: String) -> String {
        // Characters below the combining marks are composed already.
        guard text.unicodeScalars.contains(where: { $0.value >= 0x300 }) else { return text }
        var result = String.UnicodeScalarView()
        var run = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if staysApart(scalar) {
                result.append(contentsOf: compose(run))
                result.append(contentsOf: composeAlone(scalar))
                run.removeAll(keepingCapacity: true)
            } else {
                run.append(scalar)
            }
        }
        result.append(contentsOf: compose(run))
        return String(result)
    }

    private static func staysApart(_ scalar: Unicode.Scalar) -> Bool {
        guard scalar.value >= 0x300 else { return false }
        return scalar == filler || scalar.value > lastBase || isNewer(scalar)
    }

    private static func isNewer(_ scalar: Unicode.Scalar) -> Bool {
        guard let age = scalar.properties.age else { return true }
        return (age.major, age.minor) > newestUnicode
    }

    private static func composeAlone(_ scalar: Unicode.Scalar) -> String.UnicodeScalarView {
        let alone = String.UnicodeScalarView([scalar])
        return scalar.value > lastBase && !isNewer(scalar) ? compose(alone) : alone
    }

    /// Decomposed first: Swift 6.3 leaves a syllable without a final and the final behind it apart.
    private static func compose(_ run: String.UnicodeScalarView) -> String.UnicodeScalarView {
        guard !run.isEmpty else { return run }
        return String(run).decomposedStringWithCanonicalMapping.precomposedStringWithCanonicalMapping
            .unicodeScalars
    }
}
