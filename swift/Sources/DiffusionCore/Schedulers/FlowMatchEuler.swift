extension OneStepScheduler {
    /// Euler's method on the straight paths of flow matching.
    static func flowMatchEuler(_ config: SchedulerConfig, steps: Int) -> Self {
        let train = Float(config.trainTimesteps ?? 1000)
        let shift = config.shift ?? 1
        // diffusers shifts the ends of the schedule once, and all of it once more.
        let ends = [train, 1].map { timestep in
            let sigma = timestep / train
            return Double(Float(shift) * sigma / (1 + Float(shift - 1) * sigma)) * Double(train)
        }
        let sigmas = TimestepSpacing.linspace(from: ends[0], to: ends[1], count: steps).map { timestep in
            let sigma = timestep / Double(train)
            return Float(shift * sigma / (1 + (shift - 1) * sigma))
        }
        let moves = sigmas.indices.map { index in
            let sigma = Double(sigmas[index])
            let next = index + 1 < steps ? Double(sigmas[index + 1]) : 0
            return Move(
                cleanLatent: 1, cleanPrediction: -sigma, fromClean: 1, fromPrediction: next,
                mix: Mix(clean: 1 - sigma, noise: sigma))
        }
        return Self(timesteps: sigmas.map { $0 * train }, initialNoiseScale: 1, moves: moves)
    }
}
