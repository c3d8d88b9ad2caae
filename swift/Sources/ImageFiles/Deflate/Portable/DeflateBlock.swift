/// The best codes of one block, how they are written, and what the block costs.
struct DeflateBlock {
    let literalLengths: [UInt8]
    let distanceLengths: [UInt8]
    /// Value and bits of each field of the header.
    let headerFields: [(value: Int, bits: Int)]
    /// Bits of the whole block.
    let dynamicBits: Int
    let fixedBits: Int

    init(_ tokens: ArraySlice<DeflateToken>) {
        var literals = [Int](repeating: 0, count: DeflateFormat.literalCount)
        var distances = [Int](repeating: 0, count: DeflateFormat.distanceCount)
        var extraBits = 3
        literals[DeflateFormat.endOfBlock] = 1
        for token in tokens {
            guard token.distance > 0 else {
                literals[Int(token.value)] += 1
                continue
            }
            let length = Self.lengthSymbol(Int(token.value))
            let distance = Self.distanceSymbol(Int(token.distance))
            literals[DeflateFormat.endOfBlock + 1 + length] += 1
            distances[distance] += 1
            extraBits += DeflateFormat.lengthExtraBits[length] + DeflateFormat.distanceExtraBits[distance]
        }
        literalLengths = DeflateCode.lengths(frequencies: literals, limit: 15)
        distanceLengths = DeflateCode.lengths(frequencies: distances, limit: 15)
        headerFields = Self.header(literalLengths, distanceLengths)
        func cost(_ frequencies: [Int], _ lengths: [UInt8]) -> Int {
            zip(frequencies, lengths).reduce(0) { $0 + $1.0 * Int($1.1) }
        }
        dynamicBits =
            extraBits + headerFields.reduce(0) { $0 + $1.bits } + cost(literals, literalLengths)
            + cost(distances, distanceLengths)
        fixedBits =
            extraBits + cost(literals, DeflateFormat.fixedLiteralLengths)
            + cost(distances, DeflateFormat.fixedDistanceLengths)
    }

    // MARK: Symbols

    static func lengthSymbol(_ length: Int) -> Int { Int(lengthSymbols[length]) }

    static func distanceSymbol(_ distance: Int) -> Int {
        distance <= 256
            ? Int(distanceSymbols[distance]) : Int(farDistanceSymbols[(distance - 1) >> 7])
    }

    private static let lengthSymbols: [UInt8] = (0...DeflateFormat.longestMatch).map { length in
        UInt8(DeflateFormat.lengthBases.lastIndex { $0 <= length } ?? 0)
    }

    private static let distanceSymbols: [UInt8] = (0...256).map { symbol(ofDistance: $0) }

    /// By 128 distances each: beyond 256 no symbol begins inside of one.
    private static let farDistanceSymbols: [UInt8] = (0..<DeflateFormat.window / 128).map {
        symbol(ofDistance: 128 * $0 + 1)
    }

    private static func symbol(ofDistance distance: Int) -> UInt8 {
        UInt8(DeflateFormat.distanceBases.lastIndex { $0 <= distance } ?? 0)
    }

    // MARK: Header

    private static func header(_ literals: [UInt8], _ distances: [UInt8]) -> [(value: Int, bits: Int)] {
        let literals = trimmed(literals, atLeast: 257)
        let distances = trimmed(distances, atLeast: 1)
        let runs = runLengths(literals + distances)
        var frequencies = [Int](repeating: 0, count: 19)
        for run in runs { frequencies[run.symbol] += 1 }
        let lengths = DeflateCode.lengths(frequencies: frequencies, limit: 7)
        let codes = DeflateCode.reversedCodes(lengths)
        let ordered = trimmed(DeflateFormat.codeLengthOrder.map { lengths[$0] }, atLeast: 4)
        var fields = [(literals.count - 257, 5), (distances.count - 1, 5), (ordered.count - 4, 4)]
        fields += ordered.map { (Int($0), 3) }
        for run in runs {
            fields.append((Int(codes[run.symbol]), Int(lengths[run.symbol])))
            if run.extraBits > 0 { fields.append((run.extra, run.extraBits)) }
        }
        return fields.map { (value: $0.0, bits: $0.1) }
    }

    /// Without the zeros at the end.
    private static func trimmed(_ lengths: [UInt8], atLeast least: Int) -> [UInt8] {
        let end = (lengths.lastIndex { $0 > 0 } ?? 0) + 1
        return Array(lengths.prefix(max(end, least)))
    }

    private struct Run {
        var symbol: Int
        var extra = 0
        var extraBits = 0
    }

    /// Code lengths with repetitions told in short: 16 repeats the last, 17 and 18 are zeros.
    private static func runLengths(_ lengths: [UInt8]) -> [Run] {
        var runs: [Run] = []
        var position = 0
        while position < lengths.count {
            let length = lengths[position]
            let count = lengths[position...].prefix { $0 == length }.count
            var rest = count
            if length > 0 {
                runs.append(Run(symbol: Int(length)))
                rest -= 1
            }
            while rest > 0 {
                let step = length == 0 ? min(rest, 138) : min(rest, 6)
                if step < 3 {
                    runs.append(Run(symbol: Int(length)))
                    rest -= 1
                } else {
                    runs.append(
                        length > 0
                            ? Run(symbol: 16, extra: step - 3, extraBits: 2)
                            : step < 11
                                ? Run(symbol: 17, extra: step - 3, extraBits: 3)
                                : Run(symbol: 18, extra: step - 11, extraBits: 7))
                    rest -= step
                }
            }
            position += count
        }
        return runs
    }
}
