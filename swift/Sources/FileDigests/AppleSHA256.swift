#if canImport(CryptoKit)
import CryptoKit

/// SHA-256 by Apple's CryptoKit.
struct AppleSHA256: SHA256Hasher {
    private var state = SHA256()

    mutating func update(_ bytes: UnsafeRawBufferPointer) { state.update(bufferPointer: bytes) }

    func digest() -> [UInt8] { Array(state.finalize()) }
}
#endif
