extension OneStepScheduler {
    /// Euler's method on the noise level.
    ///
    /// Source: algorithm 2 of arXiv 2206.00364, without churn.
    static func euler(_ config: SchedulerConfig, steps: Int) throws -> Self {
        let name = SchedulerName.euler
        try config.refuse(.useExponentialSigmas, config.useExponentialSigmas, for: name)
        try config.refuse(.useBetaSigmas, config.useBetaSigmas, for: name)
        try config.refuse(.interpolationType, config.interpolationType.map { $0 != "linear" }, for: name)
        try config.refuse(.timestepType, config.timestepType.map { $0 != "discrete" }, for: name)
        let type = try config.choice(
            .predictionType, config.predictionType, or: PredictionType.epsilon, for: name)
        let final = try config.choice(
            .finalSigmasType, config.finalSigmasType, or: FinalSigma.zero, for: name)
        var run = try EulerRun(config, steps: steps, for: name)
        if config.useKarrasSigmas == true { run.spreadAsKarras(config) }
        let last = final == .zero ? 0 : run.table.least
        return run.scheduler { sigma, next in
            let ratio = ((next ?? last) - sigma) / sigma
            return eulerMove(type, sigma, ratio: ratio, noise: nil)
        }
    }

    /// Euler's method with noise taken out below the next level and fresh noise added.
    static func eulerAncestral(_ config: SchedulerConfig, steps: Int) throws -> Self {
        let name = SchedulerName.eulerAncestral
        let type = try config.choice(
            .predictionType, config.predictionType, or: PredictionType.epsilon, for: name,
            among: [.epsilon, .velocity])
        let run = try EulerRun(config, steps: steps, for: name)
        return run.scheduler { sigma, next in
            let next = next ?? 0
            let up = next * (1 - (next / sigma) * (next / sigma)).squareRoot()
            let down = next * next / sigma
            return eulerMove(type, sigma, ratio: (down - sigma) / sigma, noise: up)
        }
    }

    /// - Parameter ratio: how far the noise level moves, in parts of itself; -1 to the clean latent.
    private static func eulerMove(
        _ type: PredictionType, _ sigma: Double, ratio: Double, noise: Double?
    ) -> Move {
        let shares = Shares(sigma: sigma)
        let clean =
            switch type {
            case .epsilon: (latent: 1.0, prediction: -sigma)
            case .velocity: (latent: shares.picture * shares.picture, prediction: -shares.noise)
            case .sample: (latent: 0.0, prediction: 1.0)
            }
        return Move(
            inputScale: shares.picture, cleanLatent: clean.latent, cleanPrediction: clean.prediction,
            fromClean: -ratio, fromLatent: 1 + ratio, noise: noise, mix: Mix(clean: 1, noise: sigma))
    }
}

/// Timesteps and sigmas that both of Euler's schedulers share.
private struct EulerRun {
    let table: SigmaTable
    private var timesteps: [Float]
    private var sigmas: [Double]
    private let noiseIsScaled: Bool

    init(_ config: SchedulerConfig, steps: Int, for name: SchedulerName) throws {
        let schedule = try NoiseSchedule(config, .plain, floor: 0x1p-24, for: name)
        table = SigmaTable(schedule)
        let spacing = try config.choice(
            .timestepSpacing, config.timestepSpacing, or: TimestepSpacing.linspace, for: name)
        timesteps = spacing.timesteps(
            steps, train: schedule.count, offset: config.stepsOffset ?? 0, rounds: false
        ).map { Float($0) }
        sigmas = timesteps.map { [table] in table.sigma(at: Double($0)) }
        noiseIsScaled = spacing == .leading
    }

    mutating func spreadAsKarras(_ config: SchedulerConfig) {
        sigmas = SigmaTable.karras(
            from: config.sigmaMax ?? sigmas[0], to: config.sigmaMin ?? sigmas[sigmas.count - 1],
            count: sigmas.count)
        timesteps = sigmas.map { [table] in Float(table.timestep(of: $0)) }
    }

    /// - Parameter move: from a sigma to the next one; nil after the last.
    func scheduler(_ move: (Double, Double?) -> OneStepScheduler.Move) -> OneStepScheduler {
        let rounded = sigmas.map { Double(Float($0)) }
        let moves = rounded.indices.map { move(rounded[$0], $0 + 1 < rounded.count ? rounded[$0 + 1] : nil) }
        let most = rounded.max() ?? 0
        return OneStepScheduler(
            timesteps: timesteps,
            initialNoiseScale: Float(noiseIsScaled ? (most * most + 1).squareRoot() : most), moves: moves)
    }
}
