import Foundation

/// `torch.randn(count, device: "cuda")` after `torch.cuda.manual_seed(seed)`.
///
/// Each number has a Philox sequence of its own, of which one call uses one block. Holds for as many
/// numbers as a GPU has threads at a time (tens of thousands, more than the latents of pictures of
/// 1024 pixels on all but the smallest GPUs): beyond that, what torch draws depends on the GPU.
public struct CUDARandomSource: RandomSource {
    private let seed: UInt32
    /// Blocks that every sequence has used.
    private var calls: UInt32 = 0

    public init(seed: UInt32) {
        self.seed = seed
    }

    public mutating func normal(_ count: Int) -> [Float] {
        defer { if count > 0 { calls &+= 1 } }
        return [Float](normal: count) { numbers in
            for index in numbers.indices {
                let words = Philox.block(
                    counter: SIMD4(calls, 0, UInt32(truncatingIfNeeded: index), 0), key: SIMD2(seed, 0))
                numbers[index] = normal(words.x, words.y)
            }
        }
    }

    /// The first number of cuRAND's Box-Muller pair.
    private func normal(_ first: UInt32, _ second: UInt32) -> Float {
        let step: Float = 0x1p-32
        let turn = step * Float(2 * Double.pi)
        // cuRAND computes both in one fused operation: the doubles' product is exact.
        let uniform = Float(Double(Float(first)) * Double(step) + Double(step / 2))
        let angle = Float(Double(Float(second)) * Double(turn) + Double(turn / 2))
        return Float((-2 * log(Double(uniform))).squareRoot() * sin(Double(angle)))
    }
}

/// Philox 4x32 with 10 rounds: a block of random bits for each counter and key.
///
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
enum Philox {
    @inline(__always)
    static func block(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
        var (a, b, c, d) = (counter.x, counter.y, counter.z, counter.w)
        var (low, high) = (key.x, key.y)
        for _ in 0..<10 {
            let first = UInt64(a) &* 0xd251_1f53
            let second = UInt64(c) &* 0xcd9e_8d57
            a = UInt32(truncatingIfNeeded: second >> 32) ^ b ^ low
            b = UInt32(truncatingIfNeeded: second)
            c = UInt32(truncatingIfNeeded: first >> 32) ^ d ^ high
            d = UInt32(truncatingIfNeeded: first)
            low &+= 0x9e37_79b9
            high &+= 0xbb67_ae85
        }
        return SIMD4(a, b, c, d)
    }
}
