/// Sixteen uniform numbers to sixteen normal ones as torch's AVX2 code computes them.
///
/// torch takes logarithm, sine and cosine from the polynomials of the Cephes library, with the
/// products and sums that its compiler fused; those of the system differ in the last bits.
enum BoxMuller {
    private typealias Lanes = SIMD8<Float>
    private static let fourOverPi: Float = 1.273_239_544_735_16

    /// Numbers `start ..< start + 8` give the radius, the eight after them the angle.
    @inline(__always)
    static func transform(_ values: UnsafeMutableBufferPointer<Float>, at start: Int) {
        guard let base = values.baseAddress.map({ UnsafeMutableRawPointer($0 + start) }) else { return }
        let half = MemoryLayout<Lanes>.size
        let first = base.loadUnaligned(as: Lanes.self)
        let second = base.loadUnaligned(fromByteOffset: half, as: Lanes.self)
        let radius = (-2 * logarithm(1 - first)).squareRoot()
        let (sine, cosine) = sineAndCosine(Float(2 * Double.pi) * second)
        // Adding 0 makes -0 to 0, as torch's addition of the mean does.
        base.storeBytes(of: radius * cosine + 0, as: Lanes.self)
        base.storeBytes(of: radius * sine + 0, toByteOffset: half, as: Lanes.self)
    }

    /// `a * b + c`, rounded once.
    @inline(__always)
    private static func fused(_ a: Lanes, _ b: Lanes, _ c: Lanes) -> Lanes {
        #if arch(arm64)
        return c.addingProduct(a, b)
        #else
        // Without an instruction of its own it is a function call for each lane. The product is exact
        // in double precision, so that only the sum's rounding can come twice, once in 2^29 at most.
        return Lanes(SIMD8<Double>(a) * SIMD8<Double>(b) + SIMD8<Double>(c))
        #endif
    }

    /// The natural logarithm of numbers above 0.
    @inline(__always)
    private static func logarithm(_ x: Lanes) -> Lanes {
        let bits = unsafeBitCast(x, to: SIMD8<UInt32>.self)
        let exponent = SIMD8<Int32>(truncatingIfNeeded: bits &>> 23) &- 0x7e
        let mantissa = unsafeBitCast((bits & 0x807f_ffff) | 0x3f00_0000, to: Lanes.self)  // from 0.5 up to but without 1
        let small = mantissa .< 0.707_106_781_186_547_524
        let e = Lanes(exponent) - Lanes(repeating: 0).replacing(with: 1, where: small)
        let m = (mantissa - 1) + Lanes(repeating: 0).replacing(with: mantissa, where: small)
        let z = m * m
        var y = Lanes(repeating: 7.037_683_629_2e-2)
        y = fused(y, m, Lanes(repeating: -1.151_461_031_0e-1))
        y = fused(y, m, Lanes(repeating: 1.167_699_874_0e-1))
        y = fused(y, m, Lanes(repeating: -1.242_014_084_6e-1))
        y = fused(y, m, Lanes(repeating: 1.424_932_278_7e-1))
        y = fused(y, m, Lanes(repeating: -1.666_805_766_5e-1))
        y = fused(y, m, Lanes(repeating: 2.000_071_476_5e-1))
        y = fused(y, m, Lanes(repeating: -2.499_999_399_3e-1))
        y = fused(y, m, Lanes(repeating: 3.333_333_117_4e-1))
        y = fused(y * m, z, e * -2.121_944_40e-4)
        y = fused(z, Lanes(repeating: -0.5), y)
        return fused(e, Lanes(repeating: 0.693_359_375), m + y)
    }

    /// For angles from 0 to a few turns.
    @inline(__always)
    private static func sineAndCosine(_ angle: Lanes) -> (sine: Lanes, cosine: Lanes) {
        let octant = (SIMD8<Int32>(angle * fourOverPi, rounding: .towardZero) &+ 1) & ~1
        let turns = Lanes(octant)
        var x = fused(turns, Lanes(repeating: -0.785_156_25), angle)
        x = fused(turns, Lanes(repeating: -2.418_756_484_985_351_562_5e-4), x)
        x = fused(turns, Lanes(repeating: -3.774_894_977_445_941_08e-8), x)
        let z = x * x
        var c = fused(
            Lanes(repeating: 2.443_315_711_809_948e-5), z, Lanes(repeating: -1.388_731_625_493_765e-3))
        c = fused(c, z, Lanes(repeating: 4.166_664_568_298_827e-2))
        c = fused(c * z, z, -(0.5 as Float * z)) + Lanes(repeating: 1)
        var s = fused(
            Lanes(repeating: -1.951_529_589_1e-4), z, Lanes(repeating: 8.332_160_873_6e-3))
        s = fused(s, z, Lanes(repeating: -1.666_665_461_1e-1))
        s = fused(s * z, x, x)
        let swapped = (octant & 2) .!= 0
        let sine = s.replacing(with: c, where: swapped)
        let cosine = c.replacing(with: s, where: swapped)
        return (
            sine.replacing(with: -sine, where: (octant & 4) .!= 0),
            cosine.replacing(with: -cosine, where: ((octant &+ 2) & 4) .!= 0)
        )
    }
}
