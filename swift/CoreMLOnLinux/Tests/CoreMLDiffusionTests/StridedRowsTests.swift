import Testing

@testable import CoreMLDiffusionOnLinux

/// Rows of an array with gaps, against one index at a time.
@Suite struct StridedRowsTests {
    @Test(arguments: [
        ([2, 3, 4], [12, 4, 1], 1),  // no gaps: one row
        ([2, 3, 4], [24, 8, 1], 6),  // padded rows
        ([2, 3, 4], [24, 8, 2], 1),  // every second element
        ([2, 3, 4], [16, 4, 1], 2),  // gaps between planes only
        ([2, 3, 4], [1, 2, 6], 6),  // the other way round
        ([1, 320, 1, 64], [99999, 128, 77, 1], 320), ([1, 1], [5, 5], 1), ([], [], 1), ([0, 4], [4, 1], 0),
    ])
    func everyElementIsFound(shape: [Int], strides: [Int], count: Int) {
        let rows = Array(StridedRows(shape: shape, strides: strides))
        let found = rows.flatMap { row in (0..<row.count).map { row.offset + $0 * row.stride } }
        let expected = zip(shape, strides).reduce([0]) { offsets, dimension in
            offsets.flatMap { offset in (0..<dimension.0).map { offset + $0 * dimension.1 } }
        }
        #expect(found == expected)
        #expect(rows.map(\.dense) == (0..<rows.count).map { index in rows[..<index].map(\.count).reduce(0, +) })
        #expect(rows.count == count)
    }
}
