/// Pseudo numerical methods with linear multisteps (PLMS), without Runge-Kutta steps.
///
/// Its second timestep comes twice: the first step is taken again as the mean of two predictions.
/// Source: arXiv 2202.09778.
struct PNDM: Scheduler {
    let timesteps: [Float]
    let initialNoiseScale: Float = 1
    private let schedule: NoiseSchedule
    private let type: PredictionType
    private let final: Float
    private let stride: Int
    private let indices: [Int]
    /// Steps taken since the beginning, wherever that was.
    private var taken = 0
    /// The last predictions, the newest last.
    private var predictions: [[Float]] = []
    private var first: [Float] = []

    init(_ config: SchedulerConfig, steps: Int) throws {
        schedule = NoiseSchedule(config, .plain, rescales: false)
        type = config.prediction
        let placed = try schedule.indices(
            config.spacing(or: .leading).timesteps(
                steps, train: schedule.count, offset: config.stepsOffset ?? 0))
        indices = placed.count > 1 ? [placed[0], placed[1]] + placed[1...] : placed
        timesteps = indices.map(Float.init)
        stride = schedule.count / steps
        final = config.setAlphaToOne == true ? 1 : schedule.alphas[0]
    }

    func inputScale(step: Int) -> Float { 1 }

    mutating func step(
        _ latent: [Float], prediction: [Float], step: Int, noise: (Int) -> [Float]
    ) -> [Float] {
        defer { taken += 1 }
        if taken == 1 {
            let mean = [(0.5, prediction)] + predictions.suffix(1).map { (0.5, $0) }
            return move(first, by: mean, from: indices[step] + stride)
        }
        predictions = predictions.suffix(3) + [prediction]
        if taken == 0 { first = latent }
        let weights = Self.weights[predictions.count - 1]
        return move(latent, by: Array(zip(weights, predictions)), from: indices[step])
    }

    func addNoise(to clean: [Float], noise: [Float], step: Int) -> [Float] {
        Shares(alpha: schedule.alphas[indices[step]]).mix.of(clean, noise)
    }

    /// Weights of one to four predictions, the newest last.
    private static let weights: [[Double]] = [
        [1],
        [-1.0 / 2, 3.0 / 2],
        [5.0 / 12, -16.0 / 12, 23.0 / 12],
        [-9.0 / 24, 37.0 / 24, -59.0 / 24, 55.0 / 24],
    ]

    /// One stride down from a timestep along a weighted sum of predictions.
    private func move(_ latent: [Float], by terms: [(Double, [Float])], from timestep: Int) -> [Float] {
        let alpha = schedule.alphas[min(timestep, schedule.count - 1)]
        let next = timestep < stride ? final : schedule.alphas[timestep - stride]
        let (now, then) = (Shares(alpha: alpha), Shares(alpha: next))
        let ratio = then.picture / now.picture
        let divisor = now.picture * (now.picture * then.noise + now.noise * then.picture)
        let change = (Double(next) - Double(alpha)) / divisor
        let epsilon = now.epsilon(type)
        var result = WeightedSum.of(
            ratio - change * epsilon.latent, latent, -change * epsilon.prediction * terms[0].0, terms[0].1)
        for (weight, prediction) in terms.dropFirst() {
            WeightedSum.add(-change * epsilon.prediction * weight, prediction, to: &result)
        }
        return result
    }
}
