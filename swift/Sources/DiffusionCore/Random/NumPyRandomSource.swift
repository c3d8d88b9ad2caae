import Foundation

/// `numpy.random.RandomState(seed).standard_normal(count)`, rounded to fp32.
///
/// Pairs by the polar method, the second of each pair kept for the next number, also between calls.
public struct NumPyRandomSource: RandomSource {
    private var twister: MersenneTwister
    private var kept: Double?

    public init(seed: UInt32) {
        twister = MersenneTwister(seed: seed)
    }

    public mutating func normal(_ count: Int) -> [Float] {
        precondition(count >= 0, "\(count) numbers asked for")
        return [Float](unsafeUninitializedCapacity: count) { out, filled in
            for index in 0..<count { out[index] = Float(normal()) }
            filled = count
        }
    }

    private mutating func normal() -> Double {
        if let number = kept {
            kept = nil
            return number
        }
        while true {
            let x = 2 * uniform() - 1
            let y = 2 * uniform() - 1
            let square = x * x + y * y
            if square < 1 && square != 0 {
                let factor = (-2 * log(square) / square).squareRoot()
                kept = factor * x
                return factor * y
            }
        }
    }

    /// 53 random bits, from 0 up to but without 1.
    private mutating func uniform() -> Double {
        let high = Double(twister.bits() >> 5)
        let low = Double(twister.bits() >> 6)
        return (high * 67_108_864 + low) / 9_007_199_254_740_992
    }
}
