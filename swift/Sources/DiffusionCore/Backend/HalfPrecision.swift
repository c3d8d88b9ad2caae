/// Numbers of 16 bits (IEEE 754 binary16) by their bits.
///
/// `Float16` does not exist on Intel Macs, so files that declare fp16 are read and written here.
public enum HalfPrecision {
    /// The nearest half-precision number; ties go to the even one, too large becomes infinity.
    @inlinable
    public static func bits(of value: Float) -> UInt16 {
        #if arch(arm64)
        Float16(value).bitPattern
        #else
        portableBits(of: value)
        #endif
    }

    /// The number that 16 bits stand for, exactly.
    @inlinable
    public static func float(fromBits bits: UInt16) -> Float {
        #if arch(arm64)
        Float(Float16(bitPattern: bits))
        #else
        portableFloat(fromBits: bits)
        #endif
    }

    /// ``bits(of:)`` with integer arithmetic only.
    @usableFromInline
    static func portableBits(of value: Float) -> UInt16 {
        let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
        let magnitude = value.bitPattern & 0x7FFF_FFFF
        switch magnitude {
        case 0x7F80_0001...:  // NaN stays NaN, and quiet
            return sign | 0x7E00 | UInt16(truncatingIfNeeded: magnitude >> 13) & 0x3FF
        case 0x477F_F000...:  // from 65,520 on, the nearest is infinity
            return sign | 0x7C00
        case 0x3880_0000...:  // normal: the exponent moves from bias 127 to bias 15
            let rounded = magnitude + 0xFFF + (magnitude >> 13 & 1)
            return sign | UInt16(truncatingIfNeeded: (rounded - 0x3800_0000) >> 13)
        case 0x3300_0000...:
            return sign | subnormal(magnitude)
        default:  // below half of the smallest
            return sign
        }
    }

    /// Whole units of 2^-24 in the bits of a small positive number.
    private static func subnormal(_ magnitude: UInt32) -> UInt16 {
        let significand = magnitude & 0x7F_FFFF | 0x80_0000
        let shift = 126 - magnitude >> 23
        let kept = significand >> shift
        let rest = significand & (1 << shift - 1)
        let half: UInt32 = 1 << (shift - 1)
        let up = rest > half || (rest == half && kept & 1 == 1)
        return UInt16(truncatingIfNeeded: kept + (up ? 1 : 0))
    }

    /// ``float(fromBits:)`` with integer arithmetic only.
    @usableFromInline
    static func portableFloat(fromBits bits: UInt16) -> Float {
        let sign = UInt32(bits & 0x8000) << 16
        let exponent = UInt32(bits >> 10 & 0x1F)
        let fraction = UInt32(bits & 0x3FF)
        switch exponent {
        case 0:
            let size = Float(fraction) * 0x1p-24
            return sign == 0 ? size : -size
        case 31:
            return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
        default:
            return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
        }
    }
}
