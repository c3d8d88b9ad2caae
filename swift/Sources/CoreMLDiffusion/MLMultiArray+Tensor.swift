#if canImport(CoreML)
import CoreML
import DiffusionCore
import Foundation

extension MLMultiArray {
    /// A fresh array for an input.
    convenience init(for info: TensorInfo) throws {
        try self.init(
            shape: info.shape.map { NSNumber(value: $0) }, dataType: info.dtype.coreML)
    }

    /// Convert numbers to the element type of this array and store them.
    ///
    /// - Parameter values: row-major, as many as the array holds.
    /// - Returns: false where a number does not fit an array of integers.
    func fill(with values: [Float]) -> Bool {
        switch dataType {
        case .float16: store(values) { HalfPrecision.bits(of: $0) }
        case .float32: store(values) { $0 }
        case .int32: store(values) { Int32(exactly: $0) }
        default: false
        }
    }

    /// All numbers, row-major; nil for other element types than fp16, fp32 and int32.
    var tensor: Tensor? {
        let values: [Float]
        switch dataType {
        case .float16: values = read { (bits: UInt16) in HalfPrecision.float(fromBits: bits) }
        case .float32: values = read { (value: Float) in value }
        case .int32: values = read { (value: Int32) in Float(value) }
        default: return nil
        }
        return Tensor(shape: shape.map(\.intValue), values: values)
    }

    private func store<Element>(_ values: [Float], _ convert: (Float) -> Element?) -> Bool {
        let shape = shape.map(\.intValue)
        // The strides to go by are those given with the pointer: asking to write may change them.
        return withUnsafeMutableBytes { bytes, strides in
            guard let base = bytes.baseAddress?.assumingMemoryBound(to: Element.self) else {
                return values.isEmpty
            }
            return StridedRows(shape: shape, strides: strides).allSatisfy { row in
                for index in 0..<row.count {
                    guard let element = convert(values[row.dense + index]) else { return false }
                    base[row.offset + index * row.stride] = element
                }
                return true
            }
        }
    }

    private func read<Element>(_ convert: (Element) -> Float) -> [Float] {
        let rows = StridedRows(shape: shape.map(\.intValue), strides: strides.map(\.intValue))
        return withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress?.assumingMemoryBound(to: Element.self) else { return [] }
            return Array(unsafeUninitializedCapacity: rows.elementCount) { values, count in
                for row in rows {
                    for index in 0..<row.count {
                        values.initializeElement(
                            at: row.dense + index, to: convert(base[row.offset + index * row.stride]))
                    }
                }
                count = rows.elementCount
            }
        }
    }
}
#endif
