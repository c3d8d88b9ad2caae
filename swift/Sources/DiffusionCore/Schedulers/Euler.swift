import Foundation

extension OneStepScheduler {
    /// Euler's method on the noise level.
    ///
    /// Source: algorithm 2 of arXiv 2206.00364, without churn.
    static func euler(_ config: SchedulerConfig, steps: Int) throws -> Self {
        let type = config.prediction
        let run = try EulerRun(config, steps: steps, spreads: true)
        return run.scheduler { sigma, next in
            eulerMove(type, sigma, ratio: (next - sigma) / sigma, noise: nil)
        }
    }

    /// Euler's method with noise taken out below the next level and fresh noise added.
    static func eulerAncestral(_ config: SchedulerConfig, steps: Int) throws -> Self {
        let type = config.prediction
        let run = try EulerRun(config, steps: steps, spreads: false)
        return run.scheduler { sigma, next in
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
    private let timesteps: [Float]
    /// One more than timesteps: where the last step ends comes last.
    private let sigmas: [Double]
    private let noiseIsScaled: Bool

    /// - Parameter spreads: whether the diffusers class lets the config spread the sigmas.
    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where the noise does not fall in each step.
    init(_ config: SchedulerConfig, steps: Int, spreads: Bool) throws {
        let table = SigmaTable(NoiseSchedule(config, .plain, floor: 0x1p-24))
        let spacing = config.spacing(or: .linspace)
        var told = spacing.timesteps(
            steps, train: config.trainTimesteps ?? 1000, offset: config.stepsOffset ?? 0, rounds: false
        ).map { Float($0) }
        var run = told.map { table.sigma(at: Double($0)) }
        var last = 0.0
        if spreads {
            // One sigma more than timesteps: where the last step ends.
            if config.interpolationType == "log_linear" { run = table.logLinear(count: steps + 1) }
            if let spread = Self.spread(config, from: run[0], to: run[run.count - 1], count: steps) {
                run = spread
                told = run.map { Float(table.timestep(of: $0)) }
            }
            if config.timestepType == "continuous", config.prediction == .velocity {
                told = run.map { 0.25 * log(Float($0)) }
            }
            last = config.final == .zero ? 0 : table.least
        }
        try SigmaTable.requireFalling(Array(run.prefix(steps)))
        timesteps = told
        sigmas = (run + [last]).prefix(told.count + 1).map { Double(Float($0)) }
        noiseIsScaled = spacing == .leading
    }

    private static func spread(
        _ config: SchedulerConfig, from most: Double, to least: Double, count: Int
    ) -> [Double]? {
        let (most, least) = (config.sigmaMax ?? most, config.sigmaMin ?? least)
        if config.useKarrasSigmas == true { return SigmaTable.karras(from: most, to: least, count: count) }
        if config.useExponentialSigmas == true {
            return SigmaTable.exponential(from: most, to: least, count: count)
        }
        return nil
    }

    /// - Parameter move: from a sigma to the next one.
    func scheduler(_ move: (Double, Double) -> OneStepScheduler.Move) -> OneStepScheduler {
        let most = sigmas.max() ?? 0
        return OneStepScheduler(
            timesteps: timesteps,
            initialNoiseScale: Float(noiseIsScaled ? (most * most + 1).squareRoot() : most),
            moves: timesteps.indices.map { move(sigmas[$0], sigmas[$0 + 1]) })
    }
}
