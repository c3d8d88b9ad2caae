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
            for (index, value) in values.enumerated() { halves[index] = HalfPrecision.bits(of: value) }
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
        case .float16: bytes.assumingMemoryBound(to: UInt16.self).map(HalfPrecision.float(fromBits:))
        case .int32: bytes.assumingMemoryBound(to: Int32.self).map(Float.init)
        }
    }
}
