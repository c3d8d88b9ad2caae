extension OneStepScheduler {
    /// Denoising diffusion implicit models, without noise in the steps.
    ///
    /// diffusers' default of clipping the clean latent, meant for pictures, is left to models whose own
    /// scheduler is that class.
    ///
    /// Source: arXiv 2010.02502.
    static func ddim(_ config: SchedulerConfig, steps: Int) throws -> Self {
        let schedule = NoiseSchedule(config, .plain)
        let type = config.prediction
        let timesteps = try schedule.indices(
            config.spacing(or: .leading).timesteps(
                steps, train: schedule.count, offset: config.stepsOffset ?? 0))
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
        let clips = config.clipSample ?? (config.className == "DDIMScheduler")
        return Self(
            timesteps: timesteps.map(Float.init), initialNoiseScale: 1, moves: moves,
            clip: clips ? config.clipSampleRange ?? 1 : nil)
    }
}

extension NoiseSchedule {
    /// Timesteps as indices of ``alphas``.
    ///
    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where one lies outside.
    func indices(_ timesteps: [Double]) throws -> [Int] {
        try timesteps.map { timestep in
            guard timestep >= 0, timestep < Double(count) else {
                throw DiffusionError.invalidRequest(
                    reason: "steps = \(timesteps.count): one lies outside the model's \(count);"
                        + " take fewer steps")
            }
            return Int(timestep)
        }
    }
}
