/// A byte as it stands, or a piece that has occurred before.
struct DeflateToken {
    /// The byte, where `distance` is 0; else the length of the piece.
    let value: UInt16
    let distance: UInt16

    static func literal(_ byte: UInt8) -> DeflateToken { DeflateToken(value: UInt16(byte), distance: 0) }
}

/// Finds earlier occurrences (LZ77): chains of places with the same three bytes, and a look at the
/// next byte before a match is taken. Efforts are those of zlib's level 6.
struct DeflateMatcher {
    private static let hashBits = 15
    private static let longestChain = 128
    /// From this length on, less is searched for something longer.
    private static let goodLength = 8
    /// From this length on, the next byte is not looked at.
    private static let lazyLength = 16
    /// From this length on, the search ends.
    private static let niceLength = 128
    /// Shorter matches cost more than they save: filtered rows are mostly small numbers, whose own
    /// codes are short.
    private static let shortestUseful = 6

    private let bytes: [UInt8]
    /// The last place of each hash, and for each place the one before it; -1 for none.
    private var heads = [Int32](repeating: -1, count: 1 << hashBits)
    private var previous = [Int32](repeating: -1, count: DeflateFormat.window)

    private struct Match {
        var length = 0
        var distance = 0
    }

    static func tokens(of bytes: [UInt8]) -> [DeflateToken] {
        var matcher = DeflateMatcher(bytes: bytes)
        return matcher.run()
    }

    private init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    private mutating func run() -> [DeflateToken] {
        var tokens: [DeflateToken] = []
        tokens.reserveCapacity(bytes.count / 2)
        var position = 0
        var pending = Match()  // at the byte before `position`
        var isPending = false
        while position < bytes.count {
            let match =
                pending.length < Self.lazyLength
                ? longestMatch(at: position, longerThan: pending.length) : Match()
            insert(position)
            if isPending, pending.length >= DeflateFormat.shortestMatch, match.length <= pending.length {
                tokens.append(
                    DeflateToken(value: UInt16(pending.length), distance: UInt16(pending.distance)))
                let end = position - 1 + pending.length
                for place in (position + 1)..<max(position + 1, end) { insert(place) }
                position = end
                pending = Match()
                isPending = false
            } else {
                if isPending { tokens.append(.literal(bytes[position - 1])) }
                pending = match
                isPending = true
                position += 1
            }
        }
        if isPending { tokens.append(.literal(bytes[position - 1])) }
        return tokens
    }

    private func hash(at position: Int) -> Int? {
        guard position + 2 < bytes.count else { return nil }
        let value =
            UInt32(bytes[position]) << 16 | UInt32(bytes[position + 1]) << 8 | UInt32(bytes[position + 2])
        return Int((value &* 0x9E37_79B1) >> UInt32(32 - Self.hashBits))
    }

    private mutating func insert(_ position: Int) {
        guard let hash = hash(at: position) else { return }
        previous[position & (DeflateFormat.window - 1)] = heads[hash]
        heads[hash] = Int32(position)
    }

    private func longestMatch(at position: Int, longerThan shortest: Int) -> Match {
        guard let hash = hash(at: position) else { return Match() }
        let longest = min(DeflateFormat.longestMatch, bytes.count - position)
        var best = Match(length: max(shortest, DeflateFormat.shortestMatch - 1))
        guard best.length < longest else { return Match() }
        var chain = shortest >= Self.goodLength ? Self.longestChain / 4 : Self.longestChain
        var candidate = Int(heads[hash])
        while candidate >= 0, position - candidate < DeflateFormat.window, chain > 0 {
            if bytes[candidate + best.length] == bytes[position + best.length] {
                let length = commonLength(candidate, position, longest)
                if length > best.length {
                    best = Match(length: length, distance: position - candidate)
                    if length >= min(Self.niceLength, longest) { break }
                }
            }
            candidate = Int(previous[candidate & (DeflateFormat.window - 1)])
            chain -= 1
        }
        return best.distance == 0 || best.length < Self.shortestUseful ? Match() : best
    }

    private func commonLength(_ first: Int, _ second: Int, _ longest: Int) -> Int {
        var length = 0
        while length < longest, bytes[first + length] == bytes[second + length] { length += 1 }
        return length
    }
}
