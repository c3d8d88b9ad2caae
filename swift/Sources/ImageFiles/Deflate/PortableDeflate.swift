/// DEFLATE in Swift, for platforms without Compression.
enum PortableDeflate: DeflateCoder {
    static func pack(_ bytes: [UInt8]) -> [UInt8] { DeflateWriter.deflate(bytes) }

    static func unpack(
        _ bytes: [UInt8], from start: Int, limit: Int
    ) throws -> (bytes: [UInt8], end: Int) {
        try InflateReader.inflate(bytes, from: start, limit: limit)
    }
}
