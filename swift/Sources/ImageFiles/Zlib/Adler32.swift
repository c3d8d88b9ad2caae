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
