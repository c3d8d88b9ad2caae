/// Zlib streams (RFC 1950): a header, a DEFLATE stream and a checksum of what it unpacks to.
enum Zlib {
    static func pack(_ bytes: [UInt8], with coder: any DeflateCoder.Type = SystemDeflate.self) -> [UInt8] {
        [0x78, 0x9C] + coder.pack(bytes) + Adler32.of(bytes).bigEndianBytes
    }

    /// Bytes after the stream do not matter.
    ///
    /// - Parameter limit: bytes that the result may have at most.
    /// - Throws: ``PackedDataError``.
    static func unpack(
        _ bytes: [UInt8], limit: Int, with coder: any DeflateCoder.Type = SystemDeflate.self
    ) throws -> [UInt8] {
        guard bytes.count >= 2 else { throw PackedDataError.cutOff }
        let header = Int(bytes[0]) << 8 | Int(bytes[1])
        // Method 8, a window of at most 32 KiB, no preset dictionary.
        guard header % 31 == 0, bytes[0] & 0x0F == 8, bytes[0] >> 4 <= 7, bytes[1] & 0x20 == 0 else {
            throw PackedDataError.invalid
        }
        let (result, end) = try coder.unpack(bytes, from: 2, limit: limit)
        guard end + 4 <= bytes.count else { throw PackedDataError.cutOff }
        guard UInt32(bigEndianBytes: bytes[end..<end + 4]) == Adler32.of(result) else { throw PackedDataError.wrongChecksum }
        return result
    }
}
