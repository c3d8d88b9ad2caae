import DiffusionCore

extension DType {
    /// Bytes of one number.
    var byteCount: Int { self == .float16 ? 2 : 4 }
}

/// Numbers to and from the dtype of a file.
enum ElementCoding {
    /// A number that the dtype cannot hold.
    struct Unfit: Error {
        let reason: String
    }

    /// - Parameter bytes: as many as `values` take.
    static func encode(_ values: [Float], as dtype: DType, into bytes: UnsafeMutableRawBufferPointer) throws {
        switch dtype {
        case .float32: values.withUnsafeBytes { bytes.copyMemory(from: $0) }
        case .float16:
            let halves = bytes.assumingMemoryBound(to: UInt16.self)
            for (index, value) in values.enumerated() { halves[index] = HalfFloat.bits(of: value) }
        case .int32:
            let integers = bytes.assumingMemoryBound(to: Int32.self)
            for (index, value) in values.enumerated() {
                guard let integer = Int32(exactly: value) else {
                    throw Unfit(reason: "\(value) is not a 32-bit integer")
                }
                integers[index] = integer
            }
        }
    }

    static func decode(_ bytes: UnsafeRawBufferPointer, as dtype: DType) -> [Float] {
        switch dtype {
        case .float32: Array(bytes.assumingMemoryBound(to: Float.self))
        case .float16: bytes.assumingMemoryBound(to: UInt16.self).map(HalfFloat.value(ofBits:))
        case .int32: bytes.assumingMemoryBound(to: Int32.self).map(Float.init)
        }
    }
}

/// fp16 by its bits: `Float16` is not there on Intel Macs.
enum HalfFloat {
    /// The nearest fp16, ties to even; too large is infinity.
    static func bits(of value: Float) -> UInt16 {
        let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
        let magnitude = value.bitPattern & 0x7fff_ffff
        if magnitude >= 0x4780_0000 {  // 65536 and more, infinity, NaN
            return sign | (magnitude > 0x7f80_0000 ? 0x7e00 : 0x7c00)
        }
        if magnitude < 0x3880_0000 {  // below 2^-14: adding 0.5 rounds to multiples of 2^-24
            let rounded = Float(bitPattern: magnitude) + 0.5
            return sign | UInt16(truncatingIfNeeded: rounded.bitPattern &- 0x3f00_0000)
        }
        let even = (magnitude >> 13) & 1
        let rounded = magnitude &- 0x3800_0000 &+ 0xfff &+ even
        return sign | UInt16(truncatingIfNeeded: rounded >> 13)
    }

    static func value(ofBits bits: UInt16) -> Float {
        let sign = UInt32(bits & 0x8000) << 16
        let magnitude = UInt32(bits & 0x7fff) << 13
        if magnitude >= 0x0f80_0000 {  // infinity and NaN
            return Float(bitPattern: sign | 0x7f80_0000 | (magnitude & 0x7f_ffff))
        }
        // 2^112 moves the exponent to fp32's, also that of numbers below 2^-14.
        let scaled = Float(bitPattern: magnitude) * Float(bitPattern: 0x7780_0000)
        return Float(bitPattern: scaled.bitPattern | sign)
    }
}
