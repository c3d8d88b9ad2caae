/// How timesteps are spread over those of the training; numpy's arithmetic, last bit included.
enum TimestepSpacing: String, CaseIterable, Sendable {
    case linspace, leading, trailing

    /// Timesteps in running order, whole numbers but for `linspace` of Euler's schedulers.
    ///
    /// - Parameters:
    ///   - steps: how many.
    ///   - train: timesteps of the training.
    ///   - extra: 1 where diffusers spreads one more and leaves the last one out.
    ///   - rounds: whether `linspace` gives whole numbers.
    func timesteps(
        _ steps: Int, train: Int, offset: Int, leavesOutLast extra: Bool = false, rounds: Bool = true
    ) -> [Double] {
        let count = steps + (extra ? 1 : 0)
        switch self {
        case .linspace:
            let spread = Self.linspace(from: 0, to: Double(train - 1), count: count)
            let placed = rounds ? spread.map { $0.rounded(.toNearestOrEven) } : spread
            return Array(placed.reversed().prefix(steps))
        case .leading:
            let ratio = train / count
            return Array((0..<count).reversed().prefix(steps).map { Double($0 * ratio + offset) })
        case .trailing:
            return Self.descending(from: train, ratio: Double(train) / Double(steps))
                .map { $0.rounded(.toNearestOrEven) - 1 }
        }
    }

    /// `numpy.linspace`, the end included.
    static func linspace(from start: Double, to end: Double, count: Int) -> [Double] {
        guard count > 1 else { return Array(repeating: start, count: count) }
        let step = (end - start) / Double(count - 1)
        return (0..<count).map { $0 == count - 1 ? end : Double($0) * step + start }
    }

    /// `numpy.arange(start, 0, -ratio)`.
    private static func descending(from start: Int, ratio: Double) -> [Double] {
        let start = Double(start)
        let count = Int((start / ratio).rounded(.up))
        let delta = (start - ratio) - start
        return (0..<count).map { start + Double($0) * delta }
    }
}
