import Testing

@testable import DiffusionCore

#if !(os(macOS) && arch(x86_64))
/// The compiler's own `Float16` is the reference.
@Suite struct HalfPrecisionTests {
    @Test func everyPatternReadsAsTheCompilerReadsIt() {
        for bits in UInt16.min...UInt16.max {
            let (ours, reference) = (HalfPrecision.portableFloat(fromBits: bits), Float(Float16(bitPattern: bits)))
            #expect(ours.bitPattern == reference.bitPattern || (ours.isNaN && reference.isNaN))
        }
    }

    @Test func everyNumberBetweenTwoHalvesRoundsToTheNearestAndTiesToEven() {
        for bits in UInt16.min..<0x7C00 {
            let low = Float(Float16(bitPattern: bits))
            let high = bits == 0x7BFF ? 65536 : Float(Float16(bitPattern: bits + 1))
            let middle = low + (high - low) / 2
            for value in [low, low.nextUp, middle.nextDown, middle, middle.nextUp, high.nextDown] {
                for signed in [value, -value] {
                    #expect(HalfPrecision.portableBits(of: signed) == Float16(signed).bitPattern)
                }
            }
        }
    }

    @Test(arguments: [
        (0, 0x0000), (-0.0, 0x8000), (1, 0x3C00), (2049, 0x6800), (2051, 0x6802),
        (65504, 0x7BFF), (65519.996, 0x7BFF), (65520, 0x7C00), (-1e30, 0xFC00),
        (Float.infinity, 0x7C00), (-Float.infinity, 0xFC00),
        (0x1p-14, 0x0400), (0x1p-24, 0x0001), (0x1p-25, 0x0000), (0x1.000002p-25, 0x0001),
        (0x1.8p-24, 0x0002), (Float.leastNonzeroMagnitude, 0x0000),
    ] as [(Float, UInt16)])
    func knownNumbers(value: Float, bits: UInt16) {
        #expect(HalfPrecision.portableBits(of: value) == bits)
        #expect(HalfPrecision.bits(of: value) == bits)
    }

    @Test func notANumberStaysOne() {
        for bits: UInt32 in [0x7F80_0001, 0x7FC0_0000, 0xFFFF_FFFF, 0xFF80_0001] {
            let half = HalfPrecision.portableBits(of: Float(bitPattern: bits))
            #expect(Float16(bitPattern: half).isNaN)
            #expect(HalfPrecision.portableFloat(fromBits: half).isNaN)
        }
    }

    @Test func truncationWouldBeSeen() {
        let truncated = UInt16((Float(1.0 + 0x1.8p-11).bitPattern - 0x3800_0000) >> 13)
        #expect(HalfPrecision.portableBits(of: 1.0 + 0x1.8p-11) != truncated)
    }
}
#endif
