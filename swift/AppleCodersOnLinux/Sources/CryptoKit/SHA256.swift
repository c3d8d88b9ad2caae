// What AppleSHA256 uses of Apple's CryptoKit, with the names and types of its documentation.

public struct SHA256 {
    private var hasher = PortableSHA256()

    public init() {}

    public mutating func update(bufferPointer: UnsafeRawBufferPointer) { hasher.update(bufferPointer) }

    public func finalize() -> SHA256Digest { SHA256Digest(bytes: hasher.digest()) }
}

public struct SHA256Digest: Sequence {
    let bytes: [UInt8]

    public func makeIterator() -> IndexingIterator<[UInt8]> { bytes.makeIterator() }
}
