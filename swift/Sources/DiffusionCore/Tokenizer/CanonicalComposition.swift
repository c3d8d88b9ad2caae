import Foundation

/// Unicode's normal form C.
enum CanonicalComposition {
    /// Swift 6.3 swallows this filler of Hangul behind a syllable. It never composes, so the text on
    /// either side of it can be composed alone.
    private static let filler: Unicode.Scalar = "\u{11A7}"

    static func of(_ text: String) -> String {
        // Characters below the combining marks are composed already.
        guard text.unicodeScalars.contains(where: { $0.value >= 0x300 }) else { return text }
        let parts = text.unicodeScalars.split(separator: filler, omittingEmptySubsequences: false)
        return parts.map { compose(String($0)) }.joined(separator: String(filler))
    }

    /// Decomposed first: Swift 6.3 leaves a syllable without a final and the final behind it apart.
    private static func compose(_ text: String) -> String {
        text.decomposedStringWithCanonicalMapping.precomposedStringWithCanonicalMapping
    }
}
