import Foundation

public enum MLMultiArrayDataType: Int, Sendable {
    case float64 = 0x10040
    case float32 = 0x10020
    case float16 = 0x10010
    case int32 = 0x20020

    public static let double = MLMultiArrayDataType.float64
    public static let float = MLMultiArrayDataType.float32

    init(_ name: String) {
        switch name {
        case "float16": self = .float16
        case "float32": self = .float32
        case "int32": self = .int32
        default: self = .float64
        }
    }

    var size: Int { (rawValue & 0xFF) / 8 }
}

open class MLMultiArray: NSObject {
    public let shape: [NSNumber]
    public let strides: [NSNumber]
    public let dataType: MLMultiArrayDataType
    public let dataPointer: UnsafeMutableRawPointer

    private let byteCount: Int

    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        let shape = shape.map(\.intValue)
        self.init(shape, dataType, strides: denseStrides(shape))
    }

    /// An output, with gaps of memory where it is told so.
    convenience init(_ output: StandInModel.Output) {
        let shape = output.feature.shape
        var padded = shape
        padded[shape.count - 1] += output.padding
        self.init(shape, MLMultiArrayDataType(output.feature.type), strides: denseStrides(padded))
    }

    private init(_ shape: [Int], _ dataType: MLMultiArrayDataType, strides: [Int]) {
        self.shape = shape.map { NSNumber(value: $0) }
        self.strides = strides.map { NSNumber(value: $0) }
        self.dataType = dataType
        byteCount = (shape.first ?? 1) * (strides.first ?? 1) * dataType.size
        dataPointer = .allocate(byteCount: max(byteCount, 1), alignment: 64)
        // Gaps hold bits that would be seen: NaN, or -1.
        dataPointer.initializeMemory(as: UInt8.self, repeating: 0xFF, count: byteCount)
    }

    deinit { dataPointer.deallocate() }

    public func withUnsafeBytes<R>(_ body: (_ ptr: UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(start: dataPointer, count: byteCount))
    }

    public func withUnsafeMutableBytes<R>(
        _ body: (_ ptr: UnsafeMutableRawBufferPointer, _ strides: [Int]) throws -> R
    ) rethrows -> R {
        try body(
            UnsafeMutableRawBufferPointer(start: dataPointer, count: byteCount),
            strides.map(\.intValue))
    }
}

/// Numbers in row-major order, by an arithmetic of the stand-in's own: the compiler's `Float16`,
/// and one index after another.
extension MLMultiArray {
    var scalars: [Float] {
        get { offsets.map { scalar(at: $0) } }
        set { for (offset, value) in zip(offsets, newValue) { set(value, at: offset) } }
    }

    private var offsets: [Int] {
        zip(shape, strides).reduce([0]) { offsets, dimension in
            offsets.flatMap { offset in
                (0..<dimension.0.intValue).map { offset + $0 * dimension.1.intValue }
            }
        }
    }

    private func scalar(at offset: Int) -> Float {
        let place = dataPointer + offset * dataType.size
        return switch dataType {
        case .float16: Float(place.load(as: Float16.self))
        case .float32: place.load(as: Float.self)
        case .float64: Float(place.load(as: Double.self))
        case .int32: Float(place.load(as: Int32.self))
        }
    }

    private func set(_ value: Float, at offset: Int) {
        let place = dataPointer + offset * dataType.size
        switch dataType {
        case .float16: place.storeBytes(of: Float16(value), as: Float16.self)
        case .float32: place.storeBytes(of: value, as: Float.self)
        case .float64: place.storeBytes(of: Double(value), as: Double.self)
        case .int32: place.storeBytes(of: Int32(value), as: Int32.self)
        }
    }
}

private func denseStrides(_ shape: [Int]) -> [Int] {
    var strides = Array(repeating: 1, count: shape.count)
    for index in shape.indices.dropLast().reversed() {
        strides[index] = strides[index + 1] * shape[index + 1]
    }
    return strides
}
