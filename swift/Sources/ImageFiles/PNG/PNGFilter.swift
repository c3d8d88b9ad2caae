/// How a row of a PNG is told by its neighbours to the left and above.
enum PNGFilter: UInt8, CaseIterable {
    case none, left, above, average, paeth

    /// What is stored for a row; `above` is all zeros for the first.
    func apply(to row: ArraySlice<UInt8>, above: ArraySlice<UInt8>, pixelBytes: Int) -> [UInt8] {
        var result = Array(row)
        let start = row.startIndex
        let offset = above.startIndex
        for index in 0..<result.count {
            let left = index >= pixelBytes ? row[start + index - pixelBytes] : 0
            let corner = index >= pixelBytes ? above[offset + index - pixelBytes] : 0
            result[index] &-= guess(left: left, above: above[offset + index], corner: corner)
        }
        return result
    }

    /// Turns what is stored back into the row, in place.
    func undo(_ row: inout [UInt8], above: ArraySlice<UInt8>, pixelBytes: Int) {
        guard self != .none else { return }
        let offset = above.startIndex
        for index in 0..<row.count {
            let left = index >= pixelBytes ? row[index - pixelBytes] : 0
            let corner = index >= pixelBytes ? above[offset + index - pixelBytes] : 0
            row[index] &+= guess(left: left, above: above[offset + index], corner: corner)
        }
    }

    @inline(__always)
    private func guess(left: UInt8, above: UInt8, corner: UInt8) -> UInt8 {
        switch self {
        case .none: 0
        case .left: left
        case .above: above
        case .average: UInt8((UInt16(left) + UInt16(above)) / 2)
        case .paeth: Self.nearest(left: Int(left), above: Int(above), corner: Int(corner))
        }
    }

    /// Whichever of the three is nearest to left + above - corner.
    private static func nearest(left: Int, above: Int, corner: Int) -> UInt8 {
        let (toLeft, toAbove) = (abs(above - corner), abs(left - corner))
        let toCorner = abs(left + above - 2 * corner)
        if toLeft <= toAbove, toLeft <= toCorner { return UInt8(left) }
        return UInt8(toAbove <= toCorner ? above : corner)
    }
}
