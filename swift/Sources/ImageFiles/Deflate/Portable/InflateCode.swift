/// A prefix code as one table: the next bits -> symbol and length.
struct InflateCode {
    /// Symbol times 16, plus the bits to drop; 0 where no code begins with these bits.
    let table: [UInt16]
    let mask: UInt64

    /// - Throws: where the lengths are more than a code can have, or leave a gap (only a single
    ///   code may be alone).
    init(_ lengths: [UInt8]) throws {
        let longest = Int(lengths.max() ?? 0)
        var counts = [Int](repeating: 0, count: 17)
        for length in lengths where length > 0 { counts[Int(length)] += 1 }
        var free = 1
        for length in 1...15 {
            free = 2 * free - counts[length]
            guard free >= 0 else { throw PackedDataError.invalid }
        }
        guard free == 0 || longest <= 1 else { throw PackedDataError.invalid }
        mask = (1 << UInt64(longest)) - 1
        var table = [UInt16](repeating: 0, count: 1 << longest)
        for (symbol, code) in DeflateCode.reversedCodes(lengths).enumerated() where lengths[symbol] > 0 {
            let length = Int(lengths[symbol])
            for place in stride(from: Int(code), to: table.count, by: 1 << length) {
                table[place] = UInt16(symbol << 4 | length)
            }
        }
        self.table = table
    }
}
