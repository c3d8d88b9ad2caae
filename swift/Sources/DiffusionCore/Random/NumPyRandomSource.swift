import Foundation

/// `numpy.random.RandomState(seed).standard_normal(count)`, rounded to fp32.
///
/// Pairs by the polar method.
public struct NumPyRandomSource: RandomSource {
    private var normals: PairedNormals

    public init(seed: UInt32) {
        normals = PairedNormals(seed: seed)
    }

    public mutating func normal(_ count: Int) -> [Float] {
        [Float](normal: count) { numbers in
            for index in numbers.indices { numbers[index] = Float(normals.next(Self.pair)) }
        }
    }

    private static func pair(_ twister: inout MersenneTwister) -> (first: Double, second: Double) {
        while true {
            let x = 2 * uniform(&twister) - 1
            let y = 2 * uniform(&twister) - 1
            let square = x * x + y * y
            if square < 1 && square != 0 {
                let factor = (-2 * log(square) / square).squareRoot()
                return (factor * y, factor * x)
            }
        }
    }

    /// 53 random bits, from 0 up to but without 1.
    private static func uniform(_ twister: inout MersenneTwister) -> Double {
        let high = Double(twister.bits() >> 5)
        let low = Double(twister.bits() >> 6)
        return (high * 67_108_864 + low) / 9_007_199_254_740_992
    }
}
