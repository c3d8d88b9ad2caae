/// A dense array of numbers, row-major, with its shape.
///
/// Everything between two networks is fp32; a backend converts to and from what a file declares.
public struct Tensor: Sendable, Hashable {
    /// Length of each dimension, the outermost first.
    public let shape: [Int]
    /// The numbers, row-major; as many as `shape` multiplies to.
    public var values: [Float]

    /// - Precondition: `values` holds as many numbers as `shape` multiplies to.
    public init(shape: [Int], values: [Float]) {
        precondition(values.count == shape.reduce(1, *), "\(values.count) values for \(shape)")
        self.shape = shape
        self.values = values
    }

    /// A tensor of one repeated number.
    public init(shape: [Int], repeating value: Float = 0) {
        self.init(shape: shape, values: Array(repeating: value, count: shape.reduce(1, *)))
    }

    /// Whether every number is finite.
    public var isFinite: Bool { values.allSatisfy(\.isFinite) }
}

extension Tensor {
    /// The named rows of the outermost dimension, in that order.
    func rows(_ indices: [Int]) -> Tensor {
        let width = values.count / max(shape[0], 1)
        return Tensor(
            shape: [indices.count] + shape.dropFirst(),
            values: indices.flatMap { values[$0 * width..<($0 + 1) * width] })
    }
}
