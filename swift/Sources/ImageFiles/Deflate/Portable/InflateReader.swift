/// Unpacks a DEFLATE stream (RFC 1951); damaged input throws, never crashes.
struct InflateReader {
    private let bytes: [UInt8]
    private var position: Int
    private var buffer: UInt64 = 0
    private var bufferedBits = 0
    private var output: [UInt8] = []
    private let limit: Int

    /// The stream that begins at `start`, and the place after its last byte.
    ///
    /// - Parameter limit: bytes that the result may have at most.
    /// - Throws: ``PackedDataError``.
    static func inflate(
        _ bytes: [UInt8], from start: Int, limit: Int
    ) throws -> (bytes: [UInt8], end: Int) {
        var reader = InflateReader(bytes: bytes, position: start, limit: limit)
        try reader.readBlocks()
        return (reader.output, reader.position)
    }

    private init(bytes: [UInt8], position: Int, limit: Int) {
        self.bytes = bytes
        self.position = position
        self.limit = limit
    }

    private mutating func readBlocks() throws {
        var isLast = false
        while !isLast {
            isLast = try take(1) == 1
            switch try take(2) {
            case 0: try copyStored()
            case 1:
                try decode(
                    literals: InflateCode(DeflateFormat.fixedLiteralLengths),
                    distances: InflateCode(DeflateFormat.fixedDistanceLengths))
            case 2:
                let (literals, distances) = try readCodes()
                try decode(literals: literals, distances: distances)
            default: throw PackedDataError.invalid
            }
        }
        try align()
    }

    // MARK: Bits

    private mutating func fill() {
        while bufferedBits <= 48, position < bytes.count {
            buffer |= UInt64(bytes[position]) << UInt64(bufferedBits)
            bufferedBits += 8
            position += 1
        }
    }

    private mutating func drop(_ count: Int) throws {
        guard count <= bufferedBits else { throw PackedDataError.cutOff }
        buffer >>= UInt64(count)
        bufferedBits -= count
    }

    private mutating func take(_ count: Int) throws -> Int {
        fill()
        let value = Int(buffer & ((1 << UInt64(count)) - 1))
        try drop(count)
        return value
    }

    private mutating func symbol(of code: InflateCode) throws -> Int {
        fill()
        let entry = code.table[Int(buffer & code.mask)]
        guard entry != 0 else { throw bufferedBits < 15 ? PackedDataError.cutOff : PackedDataError.invalid }
        try drop(Int(entry & 0xF))
        return Int(entry >> 4)
    }

    /// Back to whole bytes.
    private mutating func align() throws {
        try drop(bufferedBits % 8)
        position -= bufferedBits / 8
        buffer = 0
        bufferedBits = 0
    }

    // MARK: Blocks

    private mutating func copyStored() throws {
        try align()
        guard position + 4 <= bytes.count else { throw PackedDataError.cutOff }
        let count = Int(bytes[position]) | Int(bytes[position + 1]) << 8
        let inverse = Int(bytes[position + 2]) | Int(bytes[position + 3]) << 8
        guard count ^ inverse == 0xFFFF else { throw PackedDataError.invalid }
        position += 4
        guard position + count <= bytes.count else { throw PackedDataError.cutOff }
        guard output.count + count <= limit else { throw PackedDataError.tooLong }
        output += bytes[position..<position + count]
        position += count
    }

    private mutating func decode(literals: InflateCode, distances: InflateCode) throws {
        while true {
            let value = try symbol(of: literals)
            if value < DeflateFormat.endOfBlock {
                guard output.count < limit else { throw PackedDataError.tooLong }
                output.append(UInt8(value))
            } else if value == DeflateFormat.endOfBlock {
                return
            } else {
                try copyMatch(lengthSymbol: value - DeflateFormat.endOfBlock - 1, distances)
            }
        }
    }

    private mutating func copyMatch(lengthSymbol: Int, _ distances: InflateCode) throws {
        guard lengthSymbol < DeflateFormat.lengthBases.count else { throw PackedDataError.invalid }
        let extraLength = try take(DeflateFormat.lengthExtraBits[lengthSymbol])
        let length = DeflateFormat.lengthBases[lengthSymbol] + extraLength
        let symbol = try symbol(of: distances)
        guard symbol < DeflateFormat.distanceCount else { throw PackedDataError.invalid }
        let extraDistance = try take(DeflateFormat.distanceExtraBits[symbol])
        let distance = DeflateFormat.distanceBases[symbol] + extraDistance
        guard distance <= output.count else { throw PackedDataError.invalid }
        guard output.count + length <= limit else { throw PackedDataError.tooLong }
        // One by one: the copy may overlap what it appends.
        for source in (output.count - distance)..<(output.count - distance + length) {
            output.append(output[source])
        }
    }

    private mutating func readCodes() throws -> (literals: InflateCode, distances: InflateCode) {
        let literalCount = try take(5) + 257
        let distanceCount = try take(5) + 1
        let lengthCount = try take(4) + 4
        guard literalCount <= DeflateFormat.literalCount, distanceCount <= DeflateFormat.distanceCount
        else { throw PackedDataError.invalid }
        var orders = [UInt8](repeating: 0, count: 19)
        for index in 0..<lengthCount {
            orders[DeflateFormat.codeLengthOrder[index]] = UInt8(try take(3))
        }
        let lengthCode = try InflateCode(orders)
        var lengths: [UInt8] = []
        while lengths.count < literalCount + distanceCount {
            switch try symbol(of: lengthCode) {
            case 16:
                guard let last = lengths.last else { throw PackedDataError.invalid }
                lengths += Array(repeating: last, count: try take(2) + 3)
            case 17: lengths += Array(repeating: 0, count: try take(3) + 3)
            case 18: lengths += Array(repeating: 0, count: try take(7) + 11)
            case let length: lengths.append(UInt8(length))
            }
        }
        guard lengths.count == literalCount + distanceCount, lengths[DeflateFormat.endOfBlock] > 0
        else { throw PackedDataError.invalid }
        return (
            try InflateCode(Array(lengths[..<literalCount])),
            try InflateCode(Array(lengths[literalCount...]))
        )
    }
}
