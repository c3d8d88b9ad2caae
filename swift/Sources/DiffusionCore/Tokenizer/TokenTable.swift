/// Tokens by id and ids by token, over one block of bytes: quick to fill and small.
struct TokenTable: Sendable {
    private var text: [UInt8] = []
    private var spans: [Range<Int>] = []
    /// Ids at the place of their token's hash or after it; -1 where free.
    private var slots: [Int32] = []

    /// nil where a token comes twice.
    ///
    /// - Parameter entries: UTF-8 of each token within `text`, and its id.
    init?(text: [UInt8], entries: [(span: Range<Int>, id: Int)]) {
        self.text = text
        let count = (entries.lazy.map(\.id).max() ?? -1) + 1
        spans = Array(repeating: 0..<0, count: count)
        var capacity = 16
        while capacity < 2 * entries.count { capacity *= 2 }
        slots = Array(repeating: -1, count: capacity)
        for (span, id) in entries {
            var slot = Self.hash(text[span]) & (capacity - 1)
            while slots[slot] >= 0 {
                if text[spans[Int(slots[slot])]] == text[span] { return nil }
                slot = (slot + 1) & (capacity - 1)
            }
            slots[slot] = Int32(id)
            spans[id] = span
        }
    }

    func id(of token: [UInt8]) -> Int32? { id(of: token[...]) }

    func id(of token: ArraySlice<UInt8>) -> Int32? {
        var slot = Self.hash(token) & (slots.count - 1)
        while slots[slot] >= 0 {
            let id = slots[slot]
            if text[spans[Int(id)]].elementsEqual(token) { return id }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    /// The token as it is written; empty where there is no such id.
    func text(of id: Int) -> ArraySlice<UInt8> {
        spans.indices.contains(id) ? text[spans[id]] : []
    }

    /// FNV-1a.
    private static func hash(_ bytes: ArraySlice<UInt8>) -> Int {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return Int(truncatingIfNeeded: hash ^ hash >> 32)
    }
}
