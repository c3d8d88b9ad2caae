/// The generator MT19937, seeded with one number as torch and numpy seed it.
struct MersenneTwister: Sendable {
    private static let size = 624
    private static let shift = 397

    private var state: [UInt32]
    private var next = MersenneTwister.size

    init(seed: UInt32) {
        state = Array(repeating: seed, count: Self.size)
        for index in 1..<Self.size {
            let previous = state[index - 1]
            state[index] = 1_812_433_253 &* (previous ^ (previous >> 30)) &+ UInt32(index)
        }
    }

    /// The next 32 random bits.
    mutating func bits() -> UInt32 {
        if next == Self.size { refill() }
        var word = state[next]
        next += 1
        word ^= word >> 11
        word ^= (word << 7) & 0x9d2c_5680
        word ^= (word << 15) & 0xefc6_0000
        return word ^ (word >> 18)
    }

    private mutating func refill() {
        state.withUnsafeMutableBufferPointer { state in
            for index in 0..<Self.size {
                let following = index + 1 == Self.size ? 0 : index + 1
                let shifted = index + Self.shift
                let distant = shifted < Self.size ? shifted : shifted - Self.size
                let joined = (state[index] & 0x8000_0000) | (state[following] & 0x7fff_ffff)
                let twist: UInt32 = joined & 1 == 0 ? 0 : 0x9908_b0df
                state[index] = state[distant] ^ (joined >> 1) ^ twist
            }
        }
        next = 0
    }
}
