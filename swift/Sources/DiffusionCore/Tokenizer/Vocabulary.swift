/// Tokens and merges of a byte-pair tokenizer.
///
/// Tokens are written in the byte alphabet: one printable character for each byte.
struct Vocabulary: Sendable {
    /// What the last token of a word ends with.
    static let wordEnd = Array("</w>".utf8)
    static let startMark = "<|startoftext|>"
    static let endMark = "<|endoftext|>"

    /// Ids of the special tokens. Bytes that the vocabulary lacks become the end token.
    let start: Int
    let end: Int

    /// Id of each single byte inside a word, and of each at a word's end.
    let bytes: [Int32]
    let lastBytes: [Int32]

    private let tokens: TokenTable
    /// Two ids -> rank and id of the merged token, packed.
    private let merges: [UInt64: UInt64]

    /// What a pair of tokens becomes; the lowest rank is merged first.
    struct Merge {
        let rank: Int32
        let id: Int32
    }

    /// nil where a special token is missing, or where the merges use a token that is.
    ///
    /// - Parameter pairs: both sides of each merge, in order of rank.
    init?(tokens: TokenTable, pairs: [(left: Int32, right: Int32, id: Int32)]) {
        guard let start = tokens.id(of: Array(Self.startMark.utf8)),
            let end = tokens.id(of: Array(Self.endMark.utf8))
        else { return nil }
        self.start = Int(start)
        self.end = Int(end)
        self.tokens = tokens
        let symbols = (0...255).map { Array(String(ByteAlphabet.characters[$0]).utf8) }
        bytes = symbols.map { tokens.id(of: $0) ?? end }
        lastBytes = symbols.map { tokens.id(of: $0 + Self.wordEnd) ?? end }
        var merges: [UInt64: UInt64] = [:]
        merges.reserveCapacity(pairs.count)
        for (rank, pair) in pairs.enumerated() {
            merges[Self.pack(pair.left, pair.right)] = Self.pack(Int32(rank), pair.id)
        }
        self.merges = merges
    }

    /// The merge of two neighbours, if there is one.
    func merge(_ left: Int32, _ right: Int32) -> Merge? {
        merges[Self.pack(left, right)].map {
            Merge(rank: Int32($0 >> 32), id: Int32($0 & 0xFFFF_FFFF))
        }
    }

    /// A token as `vocab.json` writes it; empty where there is no such id.
    func token(of id: Int) -> String { String(decoding: tokens.text(of: id), as: UTF8.self) }

    /// The bytes that a token stands for; none where there is no such id.
    func bytes(of id: Int) -> [UInt8] {
        let written = tokens.text(of: id)
        var result: [UInt8] = []
        for scalar in String(decoding: written, as: UTF8.self).unicodeScalars {
            // A token with other characters stands for itself.
            guard let byte = ByteAlphabet.byte(of: scalar) else { return Array(written) }
            result.append(byte)
        }
        return result
    }

    /// Ids and ranks are never negative.
    private static func pack(_ high: Int32, _ low: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: high)) << 32 | UInt64(UInt32(bitPattern: low))
    }
}

/// One printable character for each byte: itself where it is one, else from U+0100 on.
enum ByteAlphabet {
    static let characters: [Unicode.Scalar] = {
        var next: UInt8 = 0
        return (UInt8.min...UInt8.max).map { byte in
            guard !isPrintable(byte) else { return Unicode.Scalar(byte) }
            defer { next += 1 }
            return Unicode.Scalar(0x100 + UInt16(next)) ?? "?"
        }
    }()

    private static let inverse: [Unicode.Scalar: UInt8] = Dictionary(
        uniqueKeysWithValues: zip(characters, UInt8.min...UInt8.max))

    /// The byte that a character stands for.
    static func byte(of scalar: Unicode.Scalar) -> UInt8? { inverse[scalar] }

    private static func isPrintable(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: true
        default: false
        }
    }
}
