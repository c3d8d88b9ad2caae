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
        try Self.refuseUnsupported(config, for: name)
        type = try config.choice(
            .predictionType, config.predictionType, or: PredictionType.epsilon, for: name)
        // diffusers reads the solver types of its other schedulers as this one's own.
        let solver = ["logrho", "bh1", "bh2"].contains(config.solverType) ? nil : config.solverType
        method = try config.choice(.solverType, solver, or: Method.midpoint, for: name)
        let run = try SigmaRun(config, steps: steps, karras: name == .dpmSolverKarras, for: name)
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
        let weights = now.clean(type)
        let clean = WeightedSum.of(weights.latent, latent, weights.prediction, prediction)
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
        let shares = Shares(sigma: sigmas[step])
        return WeightedSum.of(shares.picture, clean, shares.noise, noise)
    }

    private static func refuseUnsupported(_ config: SchedulerConfig, for name: SchedulerName) throws {
        try config.refuse(.thresholding, config.thresholding, for: name)
        try config.refuse(.useLuLambdas, config.useLuLambdas, for: name)
        try config.refuse(.lambdaMinClipped, config.lambdaMinClipped.map { $0 > -.infinity }, for: name)
        try config.refuse(.varianceType, config.varianceType.map { $0.hasPrefix("learned") }, for: name)
    }
}

/// Timesteps and sigmas of the solvers of several steps.
struct SigmaRun: Sendable {
    let timesteps: [Float]
    /// One more than timesteps.
    let sigmas: [Double]

    init(_ config: SchedulerConfig, steps: Int, karras: Bool, for name: SchedulerName) throws {
        try config.refuse(.useExponentialSigmas, config.useExponentialSigmas, for: name)
        try config.refuse(.useBetaSigmas, config.useBetaSigmas, for: name)
        try config.refuse(.useFlowSigmas, config.useFlowSigmas, for: name)
        let schedule = try NoiseSchedule(config, .plain, floor: 0x1p-24, for: name)
        let spacing = try config.choice(
            .timestepSpacing, config.timestepSpacing, or: TimestepSpacing.linspace, for: name)
        let final = try config.choice(
            .finalSigmasType, config.finalSigmasType, or: FinalSigma.zero, for: name)
        let table = SigmaTable(schedule)
        var run: [Double]
        if karras || config.useKarrasSigmas == true {
            run = SigmaTable.karras(
                from: config.sigmaMax ?? table.most, to: config.sigmaMin ?? table.least, count: steps)
            let isCosine = config.betaSchedule == NoiseSchedule.BetaSchedule.cosine.rawValue
            let rounds = name == .uniPC || !isCosine
            timesteps = run.map { sigma in
                let timestep = table.timestep(of: sigma)
                return Float(rounds ? timestep.rounded(.toNearestOrEven) : timestep.rounded(.towardZero))
            }
        } else {
            let placed = spacing.timesteps(
                steps, train: schedule.count, offset: config.stepsOffset ?? 0, leavesOutLast: true)
            run = placed.map { table.sigma(at: $0) }
            timesteps = placed.map { Float($0) }
        }
        // Where the Karras sigmas end, UniPC stays; otherwise the training's least noise.
        let isKarrasUniPC = name == .uniPC && config.useKarrasSigmas == true
        let least = isKarrasUniPC ? run[run.count - 1] : table.least
        run.append(final == .zero ? 0 : least)
        sigmas = run.map { Double(Float($0)) }
    }
}
