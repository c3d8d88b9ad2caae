/// CRC-32 of a PNG's chunks.
struct CRC32 {
    private static let table: [UInt32] = (0..<256).map { start in
        (0..<8).reduce(UInt32(start)) { value, _ in
            value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1
        }
    }

    static func of(_ bytes: some Sequence<UInt8>) -> UInt32 {
        var crc = UInt32.max
        for byte in bytes { crc = crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] }
        return ~crc
    }
}

/// Adler-32 at the end of a zlib stream.
struct Adler32 {
    static func of(_ bytes: [UInt8]) -> UInt32 {
        var low: UInt32 = 1
        var high: UInt32 = 0
        var position = 0
        while position < bytes.count {
            // As many bytes as fit before the sums must be reduced.
            let end = min(position + 5552, bytes.count)
            for byte in bytes[position..<end] {
                low &+= UInt32(byte)
                high &+= low
            }
            low %= 65521
            high %= 65521
            position = end
        }
        return high << 16 | low
    }
}
