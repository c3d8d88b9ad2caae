extension OneStepScheduler {
    /// Latent consistency models: to the clean latent and back to the next level of noise.
    ///
    /// Source: arXiv 2310.04378.
    static func lcm(_ config: SchedulerConfig, steps: Int) -> Self {
        let (schedule, type, timesteps) = distilled(config, steps: steps)
        let scaling = config.timestepScaling ?? 10
        let moves = timesteps.indices.map { index in
            let now = Shares(alpha: schedule.alphas[timesteps[index]])
            let clean = now.clean(type)
            let scaled = Double(timesteps[index]) * scaling
            let divisor = scaled * scaled + 0.25
            let (out, skip) = (scaled / divisor.squareRoot(), 0.25 / divisor)
            let next = index + 1 < steps ? Shares(alpha: schedule.alphas[timesteps[index + 1]]) : nil
            let left = next?.picture ?? 1
            return Move(
                cleanLatent: clean.latent, cleanPrediction: clean.prediction, fromClean: left * out,
                fromLatent: left * skip, noise: next?.noise, mix: now.mix)
        }
        return Self(
            timesteps: timesteps.map(Float.init), initialNoiseScale: 1, moves: moves,
            clip: config.clipSample == true ? config.clipSampleRange ?? 1 : nil)
    }

    /// Trajectory consistency distillation with diffusers' gamma (eta) of 0.3.
    ///
    /// Source: arXiv 2402.19159.
    static func tcd(_ config: SchedulerConfig, steps: Int) -> Self {
        let (schedule, type, timesteps) = distilled(config, steps: steps)
        let moves = timesteps.indices.map { index in
            let now = Shares(alpha: schedule.alphas[timesteps[index]])
            let next = index + 1 < steps ? timesteps[index + 1] : 0
            let between = schedule.alphas[Int(Float(0.7) * Float(next))]  // fp32 as in diffusers
            let shares = Shares(alpha: between)
            let isLast = index + 1 == steps
            let ratio = isLast ? 1 : Double(schedule.alphas[next]) / Double(between)
            let (clean, epsilon, kept) = (now.clean(type), now.epsilon(type), ratio.squareRoot())
            return Move(
                cleanLatent: clean.latent, cleanPrediction: clean.prediction,
                fromClean: kept * shares.picture, fromLatent: kept * shares.noise * epsilon.latent,
                fromPrediction: kept * shares.noise * epsilon.prediction,
                noise: isLast ? nil : max(1 - ratio, 0).squareRoot(), mix: now.mix)
        }
        return Self(timesteps: timesteps.map(Float.init), initialNoiseScale: 1, moves: moves)
    }

    /// What both share: timesteps are picked from those that the model was distilled for.
    private static func distilled(
        _ config: SchedulerConfig, steps: Int
    ) -> (NoiseSchedule, PredictionType, [Int]) {
        let schedule = NoiseSchedule(config, .latent)
        let original = config.originalInferenceSteps ?? 50
        let stride = schedule.count / original
        let apart = Double(original) / Double(steps)
        let timesteps = (0..<steps).map { (original - Int(Double($0) * apart)) * stride - 1 }
        return (schedule, config.prediction, timesteps)
    }
}
