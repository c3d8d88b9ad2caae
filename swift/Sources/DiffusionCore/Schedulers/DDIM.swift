extension OneStepScheduler {
    /// Denoising diffusion implicit models, without noise in the steps and without clipping.
    ///
    /// Source: arXiv 2010.02502.
    static func ddim(_ config: SchedulerConfig, steps: Int) throws -> Self {
        let name = SchedulerName.ddim
        try config.refuse(.thresholding, config.thresholding, for: name)
        let schedule = try NoiseSchedule(config, .plain, for: name)
        let type = try config.choice(
            .predictionType, config.predictionType, or: PredictionType.epsilon, for: name)
        let spacing = try config.choice(
            .timestepSpacing, config.timestepSpacing, or: TimestepSpacing.leading, for: name)
        let timesteps = try schedule.indices(
            spacing.timesteps(steps, train: schedule.count, offset: config.stepsOffset ?? 0), for: name)
        let stride = schedule.count / steps
        let final = config.setAlphaToOne ?? true ? 1 : schedule.alphas[0]
        let moves = timesteps.map { timestep in
            let now = Shares(alpha: schedule.alphas[timestep])
            let next = Shares(alpha: timestep < stride ? final : schedule.alphas[timestep - stride])
            let (clean, epsilon) = (now.clean(type), now.epsilon(type))
            return Move(
                cleanLatent: clean.latent, cleanPrediction: clean.prediction, fromClean: next.picture,
                fromLatent: next.noise * epsilon.latent,
                fromPrediction: next.noise * epsilon.prediction, mix: now.mix)
        }
        return Self(timesteps: timesteps.map(Float.init), initialNoiseScale: 1, moves: moves)
    }
}

extension NoiseSchedule {
    /// Timesteps as indices of ``alphas``.
    ///
    /// - Throws: ``DiffusionError/unsupportedScheduler(reason:)`` where one lies outside.
    func indices(_ timesteps: [Double], for name: SchedulerName) throws -> [Int] {
        try timesteps.map { timestep in
            guard timestep >= 0, timestep < Double(count) else {
                throw DiffusionError.unsupportedScheduler(
                    reason: "scheduler \(name.rawValue): timestep \(Int(timestep)) lies outside the"
                        + " model's \(count); take fewer steps")
            }
            return Int(timestep)
        }
    }
}
