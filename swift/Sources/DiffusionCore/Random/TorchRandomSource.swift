import Foundation

/// `torch.randn(count, generator: torch.Generator().manual_seed(seed))` on an x86 CPU.
///
/// torch has two ways: from 16 numbers on blocks of 16 by Box-Muller in fp32, below that one number
/// after the other in double precision, with the second of each pair kept for a later short call.
public struct TorchRandomSource: RandomSource {
    private static let block = 16

    private var twister: MersenneTwister
    private var kept: Double?

    public init(seed: UInt32) {
        twister = MersenneTwister(seed: seed)
    }

    public mutating func normal(_ count: Int) -> [Float] {
        precondition(count >= 0, "\(count) numbers asked for")
        return [Float](unsafeUninitializedCapacity: count) { out, filled in
            if count < Self.block {
                for index in 0..<count { out[index] = Float(normal()) }
            } else {
                fillInBlocks(UnsafeMutableBufferPointer(rebasing: out[..<count]))
            }
            filled = count
        }
    }

    /// All uniform numbers first; what does not fill a block is drawn again as the last 16.
    private mutating func fillInBlocks(_ out: UnsafeMutableBufferPointer<Float>) {
        for index in out.indices { out[index] = uniformFloat() }
        let whole = out.count / Self.block * Self.block
        for start in stride(from: 0, to: whole, by: Self.block) { BoxMuller.transform(out, at: start) }
        guard whole < out.count else { return }
        let start = out.count - Self.block
        for index in start..<out.count { out[index] = uniformFloat() }
        BoxMuller.transform(out, at: start)
    }

    private mutating func normal() -> Double {
        if let number = kept {
            kept = nil
            return number
        }
        let angle = 2 * Double.pi * uniformDouble()
        let radius = (-2 * log1p(-uniformDouble())).squareRoot()
        kept = radius * sin(angle)
        return radius * cos(angle)
    }

    /// 24 random bits, from 0 up to but without 1.
    private mutating func uniformFloat() -> Float {
        Float(twister.bits() & 0xff_ffff) * 0x1p-24
    }

    /// 53 random bits, from 0 up to but without 1.
    private mutating func uniformDouble() -> Double {
        let high = UInt64(twister.bits())
        let low = UInt64(twister.bits())
        return Double((high << 32 | low) & 0x1f_ffff_ffff_ffff) * 0x1p-53
    }
}
