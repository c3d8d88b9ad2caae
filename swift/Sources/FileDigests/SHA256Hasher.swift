/// Computes SHA-256 (FIPS 180-4) piece by piece.
protocol SHA256Hasher {
    init()
    mutating func update(_ bytes: UnsafeRawBufferPointer)
    /// The 32 bytes for all that came so far.
    func digest() -> [UInt8]
}

#if canImport(CryptoKit)
/// The system's SHA-256, where it has one.
typealias SystemSHA256 = AppleSHA256
#else
/// The system's SHA-256, where it has one.
typealias SystemSHA256 = PortableSHA256
#endif

extension PortableSHA256: SHA256Hasher {}
