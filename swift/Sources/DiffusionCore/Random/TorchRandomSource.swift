import Foundation

/// `torch.randn(count, generator: torch.Generator().manual_seed(seed))` on an x86 CPU.
///
/// torch has two ways: from 16 numbers on blocks of 16 by Box-Muller in fp32, below that one number
/// after the other in double precision, in pairs whose second waits for a later short call.
public struct TorchRandomSource: RandomSource {
    private static let block = 16

    private var normals: PairedNormals

    public init(seed: UInt32) {
        normals = PairedNormals(seed: seed)
    }

    public mutating func normal(_ count: Int) -> [Float] {
        [Float](normal: count) { numbers in
            if count < Self.block {
                for index in numbers.indices { numbers[index] = Float(normals.next(Self.pair)) }
            } else {
                fillInBlocks(numbers)
            }
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

    private static func pair(_ twister: inout MersenneTwister) -> (first: Double, second: Double) {
        let angle = 2 * Double.pi * uniformDouble(&twister)
        let radius = (-2 * log1p(-uniformDouble(&twister))).squareRoot()
        return (radius * cos(angle), radius * sin(angle))
    }

    /// 24 random bits, from 0 up to but without 1.
    private mutating func uniformFloat() -> Float {
        Float(normals.twister.bits() & 0xff_ffff) * 0x1p-24
    }

    /// 53 random bits, from 0 up to but without 1.
    private static func uniformDouble(_ twister: inout MersenneTwister) -> Double {
        let high = UInt64(twister.bits())
        let low = UInt64(twister.bits())
        return Double((high << 32 | low) & 0x1f_ffff_ffff_ffff) * 0x1p-53
    }
}
