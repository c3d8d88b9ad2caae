import Foundation

/// Reads `vocab.json` and `merges.txt`.
struct VocabularyReader {
    static let vocabularyName = "vocab.json"
    static let mergesName = "merges.txt"

    let folder: URL

    func read() throws -> Vocabulary {
        let tokens = try readTokens()
        let pairs = try readMerges(tokens)
        guard let vocabulary = Vocabulary(tokens: tokens, pairs: pairs) else {
            throw DiffusionError.unusableFile(
                name: Self.vocabularyName, reason: "it lacks the marks of start and end")
        }
        return vocabulary
    }

    private func contents(of name: String) throws -> [UInt8] {
        [UInt8](try ForeignFile.read(folder.appendingPathComponent(name), name: name))
    }

    private func readTokens() throws -> TokenTable {
        var scanner = TokenScanner(bytes: try contents(of: Self.vocabularyName))
        guard let table = scanner.table() else {
            throw DiffusionError.unusableFile(
                name: Self.vocabularyName, reason: "it is no table of tokens and their ids")
        }
        return table
    }

    /// A heading, then two tokens a line, the most frequent pair first.
    private func readMerges(
        _ tokens: TokenTable
    ) throws -> [(left: Int32, right: Int32, id: Int32)] {
        let damaged = DiffusionError.unusableFile(
            name: Self.mergesName, reason: "it joins tokens that the vocabulary lacks")
        let heading = Array("#version".utf8)
        var pairs: [(left: Int32, right: Int32, id: Int32)] = []
        var joined: [UInt8] = []
        for line in try contents(of: Self.mergesName).split(whereSeparator: { $0 == 0x0A || $0 == 0x0D }) {
            guard !line.starts(with: heading) else { continue }
            guard let space = line.firstIndex(of: 0x20) else { throw damaged }
            let left = line[..<space]
            let right = line[(space + 1)...]
            joined.removeAll(keepingCapacity: true)
            joined += left
            joined += right
            guard let leftID = tokens.id(of: left), let rightID = tokens.id(of: right),
                let id = tokens.id(of: joined)
            else { throw damaged }
            pairs.append((leftID, rightID, id))
        }
        return pairs
    }
}
