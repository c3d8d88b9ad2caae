import Foundation

/// Words with several embeddings (`x`, `x_1`, `x_2`, ...): a prompt that holds the first is given all,
/// as diffusers' pipelines do with textual inversions.
struct PromptExpansion: Sendable {
    /// As UTF-8: strings of other characters that look the same are equal in Swift.
    private let contents: Set<[UInt8]>

    init(contents: [String]) { self.contents = Set(contents.map { Array($0.utf8) }) }

    /// Bytes that one word may add.
    private static let longest = 1 << 20

    /// Whether any word has more than one embedding.
    var isNeeded: Bool { contents.contains { contents.contains($0 + Array("_1".utf8)) } }

    /// - Parameter tokens: texts that were taken for added words. One that was written otherwise than
    ///   it was added stays as it is.
    func expand(_ prompt: String, tokens: [String]) -> String {
        var result = prompt
        var done: Set<[UInt8]> = []
        for token in tokens where isAdded(token) && done.insert(Array(token.utf8)).inserted {
            let more = (1...).lazy.map { "\(token)_\($0)" }.prefix(while: isAdded)
            let whole = ([token] + more).joined(separator: " ")
            // Words within words could multiply: what is beyond all prompts stays as it is written.
            let places = result.components(separatedBy: token).count
            guard places * whole.utf8.count < Self.longest else { continue }
            result = result.replacingOccurrences(of: token, with: whole, options: .literal)
        }
        return result
    }

    private func isAdded(_ text: String) -> Bool { contents.contains(Array(text.utf8)) }
}
