/// Walks an array in memory that may hold gaps, row by row.
///
/// Core ML pads outputs of the Neural Engine, so that neighbours in the array are not always
/// neighbours in memory. Dimensions without gaps between them become one long row.
struct StridedRows: Sequence {
    /// Elements at one distance from each other.
    struct Row: Equatable {
        /// Index of the first element in row-major order.
        var dense: Int
        /// Its place in memory, in elements.
        var offset: Int
        var count: Int
        /// Distance between neighbours in memory, in elements.
        var stride: Int
    }

    /// Elements in all rows.
    let elementCount: Int
    private let inner: (count: Int, stride: Int)
    /// Dimensions that cannot be part of a row, innermost first.
    private let outer: [(count: Int, stride: Int)]

    init(shape: [Int], strides: [Int]) {
        elementCount = shape.reduce(1, *)
        var merged: [(count: Int, stride: Int)] = []
        for (count, stride) in zip(shape, strides).reversed() where count != 1 {
            if let last = merged.last, stride == last.count * last.stride {
                merged[merged.count - 1].count *= count
            } else {
                merged.append((count, stride))
            }
        }
        inner = merged.first ?? (1, 1)
        outer = Array(merged.dropFirst())
    }

    func makeIterator() -> AnyIterator<Row> {
        let rowCount = elementCount == 0 ? 0 : elementCount / inner.count
        var next = 0
        return AnyIterator {
            guard next < rowCount else { return nil }
            defer { next += 1 }
            return row(next)
        }
    }

    private func row(_ index: Int) -> Row {
        var rest = index
        var offset = 0
        for (count, stride) in outer {
            offset += rest % count * stride
            rest /= count
        }
        return Row(dense: index * inner.count, offset: offset, count: inner.count, stride: inner.stride)
    }
}
