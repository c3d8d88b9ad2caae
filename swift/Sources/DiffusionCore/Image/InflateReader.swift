/// Unpacks a zlib stream (RFC 1950 and 1951); damaged input throws, never crashes.
struct InflateReader {
    enum Damage: Error {
        case cutOff, invalid, tooLong, wrongChecksum
    }

    private let bytes: [UInt8]
    private var position: Int
    private var buffer: UInt64 = 0
    private var bufferedBits = 0
    private var output: [UInt8] = []
    private let limit: Int

    /// - Parameter limit: bytes that the result may have at most.
    static func inflate(zlib bytes: [UInt8], limit: Int) throws -> [UInt8] {
        guard bytes.count >= 2 else { throw Damage.cutOff }
        let header = Int(bytes[0]) << 8 | Int(bytes[1])
        // Method 8, a window of at most 32 KiB, no preset dictionary.
        guard header % 31 == 0, bytes[0] & 0x0F == 8, bytes[0] >> 4 <= 7, bytes[1] & 0x20 == 0 else {
            throw Damage.invalid
        }
        var reader = InflateReader(bytes: bytes, position: 2, limit: limit)
        return try reader.run()
    }

    private init(bytes: [UInt8], position: Int, limit: Int) {
        self.bytes = bytes
        self.position = position
        self.limit = limit
    }

    private mutating func run() throws -> [UInt8] {
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
            default: throw Damage.invalid
            }
        }
        try checkSum()
        return output
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
        guard count <= bufferedBits else { throw Damage.cutOff }
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
        guard entry != 0 else { throw bufferedBits < 15 ? Damage.cutOff : Damage.invalid }
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
        guard position + 4 <= bytes.count else { throw Damage.cutOff }
        let count = Int(bytes[position]) | Int(bytes[position + 1]) << 8
        let inverse = Int(bytes[position + 2]) | Int(bytes[position + 3]) << 8
        guard count ^ inverse == 0xFFFF else { throw Damage.invalid }
        position += 4
        guard position + count <= bytes.count else { throw Damage.cutOff }
        guard output.count + count <= limit else { throw Damage.tooLong }
        output += bytes[position..<position + count]
        position += count
    }

    private mutating func decode(literals: InflateCode, distances: InflateCode) throws {
        while true {
            let value = try symbol(of: literals)
            if value < DeflateFormat.endOfBlock {
                guard output.count < limit else { throw Damage.tooLong }
                output.append(UInt8(value))
            } else if value == DeflateFormat.endOfBlock {
                return
            } else {
                try copyMatch(lengthSymbol: value - DeflateFormat.endOfBlock - 1, distances)
            }
        }
    }

    private mutating func copyMatch(lengthSymbol: Int, _ distances: InflateCode) throws {
        guard lengthSymbol < DeflateFormat.lengthBases.count else { throw Damage.invalid }
        let extraLength = try take(DeflateFormat.lengthExtraBits[lengthSymbol])
        let length = DeflateFormat.lengthBases[lengthSymbol] + extraLength
        let symbol = try symbol(of: distances)
        guard symbol < DeflateFormat.distanceCount else { throw Damage.invalid }
        let extraDistance = try take(DeflateFormat.distanceExtraBits[symbol])
        let distance = DeflateFormat.distanceBases[symbol] + extraDistance
        guard distance <= output.count else { throw Damage.invalid }
        guard output.count + length <= limit else { throw Damage.tooLong }
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
        else { throw Damage.invalid }
        var orders = [UInt8](repeating: 0, count: 19)
        for index in 0..<lengthCount {
            orders[DeflateFormat.codeLengthOrder[index]] = UInt8(try take(3))
        }
        let lengthCode = try InflateCode(orders)
        var lengths: [UInt8] = []
        while lengths.count < literalCount + distanceCount {
            switch try symbol(of: lengthCode) {
            case 16:
                guard let last = lengths.last else { throw Damage.invalid }
                lengths += Array(repeating: last, count: try take(2) + 3)
            case 17: lengths += Array(repeating: 0, count: try take(3) + 3)
            case 18: lengths += Array(repeating: 0, count: try take(7) + 11)
            case let length: lengths.append(UInt8(length))
            }
        }
        guard lengths.count == literalCount + distanceCount, lengths[DeflateFormat.endOfBlock] > 0
        else { throw Damage.invalid }
        return (
            try InflateCode(Array(lengths[..<literalCount])),
            try InflateCode(Array(lengths[literalCount...]))
        )
    }

    private mutating func checkSum() throws {
        try align()
        guard position + 4 <= bytes.count else { throw Damage.cutOff }
        let stored = bytes[position..<position + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard stored == Adler32.of(output) else { throw Damage.wrongChecksum }
    }
}

/// A prefix code as one table: the next bits -> symbol and length.
struct InflateCode {
    /// Symbol times 16, plus the bits to drop; 0 where no code begins with these bits.
    let table: [UInt16]
    let mask: UInt64

    /// - Throws: where the lengths are more than a code can have, or leave a gap (only a single
    ///   code may be alone).
    init(_ lengths: [UInt8]) throws {
        let longest = Int(lengths.max() ?? 0)
        var counts = [Int](repeating: 0, count: 17)
        for length in lengths where length > 0 { counts[Int(length)] += 1 }
        var free = 1
        for length in 1...15 {
            free = 2 * free - counts[length]
            guard free >= 0 else { throw InflateReader.Damage.invalid }
        }
        guard free == 0 || longest <= 1 else { throw InflateReader.Damage.invalid }
        mask = (1 << UInt64(longest)) - 1
        var table = [UInt16](repeating: 0, count: 1 << longest)
        for (symbol, code) in DeflateCode.reversedCodes(lengths).enumerated() where lengths[symbol] > 0 {
            let length = Int(lengths[symbol])
            for place in stride(from: Int(code), to: table.count, by: 1 << length) {
                table[place] = UInt16(symbol << 4 | length)
            }
        }
        self.table = table
    }
}
