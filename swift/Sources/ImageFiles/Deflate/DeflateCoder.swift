/// Packs and unpacks DEFLATE streams (RFC 1951).
protocol DeflateCoder {
    static func pack(_ bytes: [UInt8]) -> [UInt8]

    /// Unpack the stream that begins at `start`; anything may follow it.
    ///
    /// - Parameter limit: bytes that the result may have at most; memory grows with the result, not
    ///   with the limit.
    /// - Returns: the result, and the place after the stream's last byte.
    /// - Throws: ``PackedDataError``, but not for a wrong checksum: there is none.
    static func unpack(
        _ bytes: [UInt8], from start: Int, limit: Int
    ) throws -> (bytes: [UInt8], end: Int)
}

#if canImport(Compression)
/// The system's coder, where it has one.
typealias SystemDeflate = AppleDeflate
#else
/// The system's coder, where it has one.
typealias SystemDeflate = PortableDeflate
#endif
