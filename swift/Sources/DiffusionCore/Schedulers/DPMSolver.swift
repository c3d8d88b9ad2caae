import Foundation

/// DPM-Solver++ of second order with the clean latent of one step before (2M).
///
/// Source: arXiv 2211.01095.
struct DPMSolver: Scheduler {
    let timesteps: [Float]
    let initialNoiseScale: Float = 1
    /// One more than timesteps: where the last step ends comes last.
    private let sigmas: [Double]
    private let type: PredictionType
    private let method: Method
    private let endsInFirstOrder: Bool
    /// The clean latent of the step before.
    private var before: [Float]?

    private enum Method: String, CaseIterable { case midpoint, heun }

    init(_ config: SchedulerConfig, steps: Int, for name: SchedulerName) throws {
        type = config.prediction
        // diffusers reads the solver types of its other schedulers as this one's own.
        method = config.solverType.flatMap(Method.init) ?? .midpoint
        let run = try SigmaRun(config, steps: steps, for: name)
        timesteps = run.timesteps
        sigmas = run.sigmas
        endsInFirstOrder =
            config.eulerAtFinal == true || ((config.lowerOrderFinal ?? true) && steps < 15)
            || sigmas.last == 0
    }

    func inputScale(step: Int) -> Float { 1 }

    mutating func step(
        _ latent: [Float], prediction: [Float], step: Int, noise: (Int) -> [Float]
    ) -> [Float] {
        let now = Shares(sigma: sigmas[step])
        let next = Shares(sigma: sigmas[step + 1])
        let clean = now.clean(type, latent, prediction)
        defer { before = clean }
        let growth = next.picture * (1 - sigmas[step + 1] / sigmas[step])
        guard let before, !(endsInFirstOrder && step == timesteps.count - 1) else {
            return WeightedSum.of(next.noise / now.noise, latent, growth, clean)
        }
        let slope = slope(step: step, growth: growth, scale: next.picture)
        var result = WeightedSum.of(next.noise / now.noise, latent, growth + slope, clean)
        WeightedSum.add(-slope, before, to: &result)
        return result
    }

    /// What the difference to the clean latent of the step before weighs.
    private func slope(step: Int, growth: Double, scale: Double) -> Double {
        let length = log(sigmas[step] / sigmas[step + 1])
        let ratio = length / log(sigmas[step - 1] / sigmas[step])
        switch method {
        case .midpoint: return 0.5 * growth * ratio
        case .heun: return (scale - growth / length) * ratio
        }
    }

    func addNoise(to clean: [Float], noise: [Float], step: Int) -> [Float] {
        Shares(sigma: sigmas[step]).mix.of(clean, noise)
    }
}
