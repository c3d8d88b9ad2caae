/// Schedulers that need nothing but the latent and the prediction of the step: DDIM, Euler, Euler
/// ancestral, LCM, TCD and flow matching. Each is a table of weights, made once.
struct OneStepScheduler: Scheduler {
    let timesteps: [Float]
    let initialNoiseScale: Float
    let moves: [Move]
    /// The bound that the clean latent is clipped to; nil for none.
    var clip: Double?

    /// The weights of one step.
    ///
    /// `clean = cleanLatent * latent + cleanPrediction * prediction`, and the next latent is
    /// `fromClean * clean + fromLatent * latent + fromPrediction * prediction + noise * fresh`.
    struct Move: Sendable {
        var inputScale = 1.0
        var cleanLatent: Double
        var cleanPrediction: Double
        var fromClean: Double
        var fromLatent = 0.0
        var fromPrediction = 0.0
        /// nil where no noise is drawn.
        var noise: Double?
        /// A clean latent and noise, as img2img mixes them at this step.
        var mix: Mix
    }

    /// `clean * latent + noise * fresh`.
    struct Mix: Sendable {
        var clean: Double
        var noise: Double

        func of(_ clean: [Float], _ fresh: [Float]) -> [Float] {
            WeightedSum.of(self.clean, clean, noise, fresh)
        }
    }

    func inputScale(step: Int) -> Float { Float(moves[step].inputScale) }

    mutating func step(
        _ latent: [Float], prediction: [Float], step: Int, noise: (Int) -> [Float]
    ) -> [Float] {
        let move = moves[step]
        var next = clip.map { clipped(latent, prediction, move, $0) } ?? sum(latent, prediction, move)
        if let weight = move.noise { WeightedSum.add(weight, noise(latent.count), to: &next) }
        return next
    }

    func addNoise(to clean: [Float], noise: [Float], step: Int) -> [Float] {
        moves[step].mix.of(clean, noise)
    }

    private func sum(_ latent: [Float], _ prediction: [Float], _ move: Move) -> [Float] {
        WeightedSum.of(
            move.fromLatent + move.fromClean * move.cleanLatent, latent,
            move.fromPrediction + move.fromClean * move.cleanPrediction, prediction)
    }

    private func clipped(
        _ latent: [Float], _ prediction: [Float], _ move: Move, _ bound: Double
    ) -> [Float] {
        var clean = WeightedSum.of(move.cleanLatent, latent, move.cleanPrediction, prediction)
        WeightedSum.clip(&clean, to: bound)
        var next = WeightedSum.of(move.fromLatent, latent, move.fromPrediction, prediction)
        WeightedSum.add(move.fromClean, clean, to: &next)
        return next
    }
}

/// Shares of picture and noise in a latent, their squares adding up to 1.
struct Shares: Sendable {
    var picture: Double
    var noise: Double

    init(alpha: Float) {
        picture = Double(alpha).squareRoot()
        noise = (1 - Double(alpha)).squareRoot()
    }

    init(sigma: Double) {
        picture = 1 / (sigma * sigma + 1).squareRoot()
        noise = sigma * picture
    }

    var mix: OneStepScheduler.Mix { .init(clean: picture, noise: noise) }

    /// The clean latent as weights of latent and prediction.
    func clean(_ type: PredictionType) -> (latent: Double, prediction: Double) {
        switch type {
        case .epsilon: (1 / picture, -noise / picture)
        case .velocity: (picture, -noise)
        case .sample: (0, 1)
        }
    }

    /// The clean latent itself.
    func clean(_ type: PredictionType, _ latent: [Float], _ prediction: [Float]) -> [Float] {
        let weights = clean(type)
        return WeightedSum.of(weights.latent, latent, weights.prediction, prediction)
    }

    /// The noise in the latent as weights of latent and prediction.
    func epsilon(_ type: PredictionType) -> (latent: Double, prediction: Double) {
        switch type {
        case .epsilon: (0, 1)
        case .velocity: (noise, picture)
        case .sample: (1 / noise, -picture / noise)
        }
    }
}
