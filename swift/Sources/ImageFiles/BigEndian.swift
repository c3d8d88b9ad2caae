extension UInt32 {
    /// Its four bytes, the highest first.
    var bigEndianBytes: [UInt8] { [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: self >> $0) } }

    /// - Precondition: there are four bytes, the highest first.
    init(bigEndianBytes bytes: ArraySlice<UInt8>) {
        precondition(bytes.count == 4, "\(bytes.count) bytes for 4")
        self = bytes.reduce(0) { $0 << 8 | UInt32($1) }
    }
}
