#if canImport(Compression)
import Compression

/// DEFLATE by Apple's Compression. Its `COMPRESSION_ZLIB` is the bare stream, without the header and
/// the checksum of RFC 1950.
enum AppleDeflate: DeflateCoder {
    /// Bytes that are asked for at a time.
    private static let pieceBytes = 1 << 16

    static func pack(_ bytes: [UInt8]) -> [UInt8] {
        // Compression takes no empty source.
        guard let packed = try? run(COMPRESSION_STREAM_ENCODE, bytes[...], limit: .max) else {
            return PortableDeflate.pack(bytes)
        }
        return packed.bytes
    }

    static func unpack(
        _ bytes: [UInt8], from start: Int, limit: Int
    ) throws -> (bytes: [UInt8], end: Int) {
        let (result, unread) = try run(COMPRESSION_STREAM_DECODE, bytes[start...], limit: limit)
        return (result, bytes.count - unread)
    }

    /// The result, and how many bytes of the source lie after the stream.
    private static func run(
        _ operation: compression_stream_operation, _ source: ArraySlice<UInt8>, limit: Int
    ) throws -> (bytes: [UInt8], unread: Int) {
        let piece = UnsafeMutablePointer<UInt8>.allocate(capacity: pieceBytes)
        defer { piece.deallocate() }
        return try source.withUnsafeBufferPointer { source in
            guard let begin = source.baseAddress, !source.isEmpty else { throw PackedDataError.cutOff }
            var stream = compression_stream(
                dst_ptr: piece, dst_size: 0, src_ptr: begin, src_size: 0, state: nil)
            guard compression_stream_init(&stream, operation, COMPRESSION_ZLIB) == COMPRESSION_STATUS_OK
            else { throw PackedDataError.invalid }
            defer { compression_stream_destroy(&stream) }
            (stream.src_ptr, stream.src_size) = (begin, source.count)
            return (try output(of: &stream, piece, limit: limit), stream.src_size)
        }
    }

    private static func output(
        of stream: inout compression_stream, _ piece: UnsafeMutablePointer<UInt8>, limit: Int
    ) throws -> [UInt8] {
        let isLast = Int32(COMPRESSION_STREAM_FINALIZE.rawValue)
        var output: [UInt8] = []
        while true {
            let unread = stream.src_size
            (stream.dst_ptr, stream.dst_size) = (piece, pieceBytes)
            let status = compression_stream_process(&stream, isLast)
            guard status != COMPRESSION_STATUS_ERROR else { throw PackedDataError.invalid }
            let count = pieceBytes - stream.dst_size
            guard output.count + count <= limit else { throw PackedDataError.tooLong }
            output += UnsafeBufferPointer(start: piece, count: count)
            if status == COMPRESSION_STATUS_END { return output }
            guard count > 0 || stream.src_size < unread else { throw PackedDataError.cutOff }
        }
    }
}
#endif
