import Testing

@testable import LiteRTDiffusion

#if !(arch(x86_64) && canImport(Darwin))
@Suite("fp16 by its bits is Swift's own Float16")
struct HalfFloatTests {
    @Test("for each of its values") func decode() {
        for bits in UInt16.min...UInt16.max {
            let (value, expected) = (HalfFloat.value(ofBits: bits), Float(Float16(bitPattern: bits)))
            guard value.bitPattern != expected.bitPattern, !(value.isNaN && expected.isNaN) else { continue }
            Issue.record("\(bits): \(value), not \(expected)")
        }
    }

    @Test("for fp32 of every size, and at each tie and its neighbours") func encode() {
        var differing = 0
        func compare(_ value: Float) {
            let (bits, expected) = (HalfFloat.bits(of: value), Float16(value))
            let same = expected.isNaN ? Float16(bitPattern: bits).isNaN : bits == expected.bitPattern
            if !same { differing += 1 }
        }
        for step in UInt32(0)..<(1 << 20) { compare(Float(bitPattern: step << 12 | step & 0xfff)) }
        for bits in UInt16(0)..<0x7c00 {
            let (low, high) = (Float(Float16(bitPattern: bits)), Float(Float16(bitPattern: bits + 1)))
            let tie = bits == 0x7bff ? 65520 : (low + high) / 2
            for value in [low, tie, tie.nextUp, tie.nextDown] {
                compare(value)
                compare(-value)
            }
        }
        #expect(differing == 0)
    }
}
#endif
