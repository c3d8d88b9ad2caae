import Foundation

/// UniPC: each step predicts the next latent and corrects the one before it by the new prediction.
///
/// Source: arXiv 2302.04867.
struct UniPC: Scheduler {
    let timesteps: [Float]
    let initialNoiseScale: Float = 1
    /// One more than timesteps: where the last step ends comes last.
    private let sigmas: [Double]
    private let type: PredictionType
    private let method: Method
    private let order: Int
    private let lowersFinalOrder: Bool
    private let uncorrected: Set<Int>
    /// Clean latents of the steps before, the newest last.
    private var cleans: [[Float]] = []
    /// The corrected latent of the step before, and the order that it was predicted with.
    private var before: (latent: [Float], order: Int)?

    private enum Method: String, CaseIterable { case bh1, bh2 }

    init(_ config: SchedulerConfig, steps: Int) throws {
        type = config.prediction
        // diffusers reads the solver types of its other schedulers as this one's own.
        method = config.solverType.flatMap(Method.init) ?? .bh2
        order = config.solverOrder ?? 2
        lowersFinalOrder = config.lowerOrderFinal ?? true
        uncorrected = Set(config.disableCorrector ?? [])
        let run = try SigmaRun(config, steps: steps, for: .uniPC)
        (timesteps, sigmas) = (run.timesteps, run.sigmas)
    }

    func inputScale(step: Int) -> Float { 1 }

    mutating func step(
        _ latent: [Float], prediction: [Float], step: Int, noise: (Int) -> [Float]
    ) -> [Float] {
        let clean = Shares(sigma: sigmas[step]).clean(type, latent, prediction)
        let corrected = corrected(clean, step: step) ?? latent
        cleans = cleans.suffix(order - 1) + [clean]
        let highest = lowersFinalOrder ? min(order, timesteps.count - step) : order
        let now = min(highest, cleans.count)
        before = (corrected, now)
        return predicted(corrected, step: step, order: now)
    }

    func addNoise(to clean: [Float], noise: [Float], step: Int) -> [Float] {
        Shares(sigma: sigmas[step]).mix.of(clean, noise)
    }

    /// The latent of this step again, now that its clean latent is known; nil where that is left out.
    private func corrected(_ clean: [Float], step: Int) -> [Float]? {
        guard let before, step > 0, !uncorrected.contains(step - 1), let newest = cleans.last else {
            return nil
        }
        let path = path(from: step - 1, order: before.order)
        var result = WeightedSum.of(path.latent, before.latent, path.clean, newest)
        let slopes = before.order == 1 ? [0.5] : Self.solve(path.matrix, path.right)
        add(slopes.dropLast(), path, to: &result)
        let last = path.change * (slopes.last ?? 0)
        WeightedSum.add(last, clean, to: &result)
        WeightedSum.add(-last, newest, to: &result)
        return result
    }

    private func predicted(_ latent: [Float], step: Int, order: Int) -> [Float] {
        guard let newest = cleans.last else { return latent }
        let path = path(from: step, order: order)
        var result = WeightedSum.of(path.latent, latent, path.clean, newest)
        let smaller = path.matrix.dropLast().map { Array($0.dropLast()) }
        let slopes = order == 2 ? [0.5] : Self.solve(smaller, Array(path.right.dropLast()))
        add(slopes[...], path, to: &result)
        return result
    }

    /// Add the differences of older clean latents to the newest.
    private func add(_ slopes: ArraySlice<Double>, _ path: Path, to result: inout [Float]) {
        for (slope, (ratio, clean)) in zip(slopes, zip(path.ratios, cleans.reversed().dropFirst())) {
            let weight = path.change * slope / ratio
            WeightedSum.add(weight, clean, to: &result)
            WeightedSum.add(-weight, cleans[cleans.count - 1], to: &result)
        }
    }

    /// What a move from one sigma to the next weighs, and the equations for its higher orders.
    private struct Path {
        var latent: Double
        var clean: Double
        var change: Double
        var ratios: [Double]
        var matrix: [[Double]]
        var right: [Double]
    }

    private func path(from start: Int, order: Int) -> Path {
        let (now, next) = (Shares(sigma: sigmas[start]), Shares(sigma: sigmas[start + 1]))
        let length = log(sigmas[start] / sigmas[start + 1])
        let growth = expm1(-length)
        let scale = method == .bh1 ? -length : growth
        let ratios = (1..<max(order, 1)).map { log(sigmas[start] / sigmas[start - $0]) / length }
        var (power, factorial) = (growth / -length - 1, 1.0)
        var (matrix, right): ([[Double]], [Double]) = ([], [])
        for row in 1...order {
            matrix.append((ratios + [1]).map { pow($0, Double(row - 1)) })
            right.append(power * factorial / scale)
            factorial *= Double(row + 1)
            power = power / -length - 1 / factorial
        }
        return Path(
            latent: next.noise / now.noise, clean: -next.picture * growth,
            change: -next.picture * scale, ratios: ratios, matrix: matrix, right: right)
    }

    /// A small system of linear equations, by elimination with pivots.
    private static func solve(_ matrix: [[Double]], _ right: [Double]) -> [Double] {
        let count = right.count
        var rows = zip(matrix, right).map { $0 + [$1] }
        for column in 0..<count {
            let pivot = (column..<count).max { abs(rows[$0][column]) < abs(rows[$1][column]) } ?? column
            rows.swapAt(column, pivot)
            for row in 0..<count where row != column {
                let factor = rows[row][column] / rows[column][column]
                for entry in column...count { rows[row][entry] -= factor * rows[column][entry] }
            }
        }
        return (0..<count).map { rows[$0][count] / rows[$0][$0] }
    }
}
