/// Sixteen uniform numbers to sixteen normal ones as torch's AVX2 code computes them.
///
/// torch takes logarithm, sine and cosine from the polynomials of the Cephes library, with the
/// products and sums that its compiler fused; those of the system differ in the last bits.
enum BoxMuller {
    private typealias Lanes = SIMD8<Float>
    private typealias Words = SIMD8<UInt32>
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
        let bits = words(x)
        // The exponent's bits below those of 2^23 are that number plus the exponent.
        let exponent = lanes((bits &>> 23) | 0x4b00_0000) - (0x1p23 + 0x7e)
        let fraction = (bits & 0x007f_ffff) | 0x3f00_0000  // from 0.5 up to but without 1
        let small = 0 &- below(fraction, 0.707_106_781_186_547_524)
        let e = exponent - lanes(small & words(Lanes(repeating: 1)))
        let m = (lanes(fraction) - 1) + lanes(small & fraction)
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

    /// For angles from 0 to one turn.
    @inline(__always)
    private static func sineAndCosine(_ angle: Lanes) -> (sine: Lanes, cosine: Lanes) {
        let octant = words(angle * fourOverPi)
        let quarter = 4 &- below(octant, 1) &- below(octant, 3) &- below(octant, 5) &- below(octant, 7)
        let even = lanes((quarter &+ quarter) | 0x4b00_0000) - 0x1p23
        var x = fused(even, Lanes(repeating: -0.785_156_25), angle)
        x = fused(even, Lanes(repeating: -2.418_756_484_985_351_562_5e-4), x)
        x = fused(even, Lanes(repeating: -3.774_894_977_445_941_08e-8), x)
        let z = x * x
        var c = fused(
            Lanes(repeating: 2.443_315_711_809_948e-5), z, Lanes(repeating: -1.388_731_625_493_765e-3))
        c = fused(c, z, Lanes(repeating: 4.166_664_568_298_827e-2))
        c = fused(c * z, z, -(0.5 as Float * z)) + Lanes(repeating: 1)
        var s = fused(
            Lanes(repeating: -1.951_529_589_1e-4), z, Lanes(repeating: 8.332_160_873_6e-3))
        s = fused(s, z, Lanes(repeating: -1.666_665_461_1e-1))
        s = fused(s * z, x, x)
        let swapped = 0 &- (quarter & 1)
        let change = (words(s) ^ words(c)) & swapped
        let sineSign = (quarter & 2) &<< 30
        let cosineSign = ((quarter &+ 1) & 2) &<< 30
        return (lanes(words(s) ^ change ^ sineSign), lanes(words(c) ^ change ^ cosineSign))
    }

    // Comparisons and choices by bits: those of the SIMD types are done lane by lane.

    /// 1 in the lanes whose number is below `bound`; of numbers from 0 on.
    @inline(__always)
    private static func below(_ x: Words, _ bound: Float) -> Words {
        (x &- bound.bitPattern) &>> 31
    }

    @inline(__always)
    private static func words(_ x: Lanes) -> Words { unsafeBitCast(x, to: Words.self) }

    @inline(__always)
    private static func lanes(_ x: Words) -> Lanes { unsafeBitCast(x, to: Lanes.self) }
}
