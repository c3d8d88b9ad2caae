/// Packs bytes into a DEFLATE stream (RFC 1951).
struct DeflateWriter {
    /// Tokens of a block; each block has its own codes.
    private static let blockTokens = 16384

    private var output: [UInt8] = []
    private var buffer: UInt64 = 0
    private var bufferedBits = 0

    static func deflate(_ bytes: [UInt8]) -> [UInt8] {
        var writer = DeflateWriter()
        writer.writeBlocks(bytes)
        return writer.output
    }

    private mutating func writeBlocks(_ bytes: [UInt8]) {
        let tokens = DeflateMatcher.tokens(of: bytes)
        var start = 0
        var begin = 0
        repeat {
            let end = min(start + Self.blockTokens, tokens.count)
            let block = tokens[start..<end]
            let count = block.reduce(0) { $0 + ($1.distance == 0 ? 1 : Int($1.value)) }
            write(block, of: bytes[begin..<begin + count], isLast: end == tokens.count)
            start = end
            begin += count
        } while start < tokens.count
        align()
    }

    /// One block, in whichever form is the smallest.
    private mutating func write(
        _ tokens: ArraySlice<DeflateToken>, of bytes: ArraySlice<UInt8>, isLast: Bool
    ) {
        let table = DeflateBlock(tokens)
        let storedBits = 8 * bytes.count + 40 * (bytes.count / 65535 + 1)
        if storedBits < min(table.dynamicBits, table.fixedBits) {
            writeStored(bytes, isLast: isLast)
            return
        }
        let isFixed = table.fixedBits <= table.dynamicBits
        put(isLast ? 1 : 0, 1)
        put(isFixed ? 1 : 2, 2)
        if isFixed {
            write(tokens, DeflateFormat.fixedLiteralLengths, DeflateFormat.fixedDistanceLengths)
        } else {
            for (value, count) in table.headerFields { put(value, count) }
            write(tokens, table.literalLengths, table.distanceLengths)
        }
    }

    private mutating func writeStored(_ bytes: ArraySlice<UInt8>, isLast: Bool) {
        var rest = bytes
        repeat {
            let part = rest.prefix(65535)
            rest = rest.dropFirst(part.count)
            put(isLast && rest.isEmpty ? 1 : 0, 1)
            put(0, 2)
            align()
            for value in [part.count, part.count ^ 0xFFFF] {
                output.append(UInt8(truncatingIfNeeded: value))
                output.append(UInt8(truncatingIfNeeded: value >> 8))
            }
            output += part
        } while !rest.isEmpty
    }

    private mutating func write(
        _ tokens: ArraySlice<DeflateToken>, _ literalLengths: [UInt8], _ distanceLengths: [UInt8]
    ) {
        let literals = DeflateCode.reversedCodes(literalLengths)
        let distances = DeflateCode.reversedCodes(distanceLengths)
        for token in tokens {
            guard token.distance > 0 else {
                put(Int(literals[Int(token.value)]), Int(literalLengths[Int(token.value)]))
                continue
            }
            let length = DeflateBlock.lengthSymbol(Int(token.value))
            let symbol = DeflateFormat.endOfBlock + 1 + length
            put(Int(literals[symbol]), Int(literalLengths[symbol]))
            put(
                Int(token.value) - DeflateFormat.lengthBases[length],
                DeflateFormat.lengthExtraBits[length])
            let distance = DeflateBlock.distanceSymbol(Int(token.distance))
            put(Int(distances[distance]), Int(distanceLengths[distance]))
            put(
                Int(token.distance) - DeflateFormat.distanceBases[distance],
                DeflateFormat.distanceExtraBits[distance])
        }
        put(
            Int(literals[DeflateFormat.endOfBlock]), Int(literalLengths[DeflateFormat.endOfBlock]))
    }

    /// Appends the lowest bits of a value.
    private mutating func put(_ value: Int, _ count: Int) {
        buffer |= UInt64(value) << UInt64(bufferedBits)
        bufferedBits += count
        while bufferedBits >= 8 {
            output.append(UInt8(truncatingIfNeeded: buffer))
            buffer >>= 8
            bufferedBits -= 8
        }
    }

    private mutating func align() {
        if bufferedBits > 0 { put(0, 8 - bufferedBits) }
    }
}
