import Foundation

/// How much of the picture is left at each timestep of the training.
///
/// fp32 and in the order of diffusers: `1 - alpha` at the first timesteps keeps few digits in fp32,
/// and a more precise table would give other numbers than the model was trained with.
struct NoiseSchedule: Sendable {
    /// Cumulative product of `1 - beta`; from nearly 1 to nearly 0.
    var alphas: [Float]

    /// What a diffusers class takes where the model says nothing.
    struct Defaults {
        var start: Double
        var end: Double
        var schedule: BetaSchedule

        static let plain = Defaults(start: 0.0001, end: 0.02, schedule: .linear)
        static let latent = Defaults(start: 0.00085, end: 0.012, schedule: .scaledLinear)
    }

    enum BetaSchedule: String, CaseIterable {
        case linear
        case scaledLinear = "scaled_linear"
        case cosine = "squaredcos_cap_v2"
    }

    /// - Parameters:
    ///   - rescales: whether the diffusers class knows `rescale_betas_zero_snr`.
    ///   - floor: what stands for 0 at the last timestep of a rescaled schedule.
    init(
        _ config: SchedulerConfig, _ defaults: Defaults, rescales: Bool = true, floor: Float? = nil
    ) {
        let betas = Self.betas(config, defaults)
        let rescale = rescales && config.rescaleBetasZeroSNR == true
        alphas = Self.products(of: rescale ? Self.endingInNoise(betas) : betas)
        if rescale, let floor { alphas[alphas.count - 1] = floor }
    }

    /// Number of timesteps of the training.
    var count: Int { alphas.count }

    /// Noise over picture at each timestep.
    var sigmas: [Float] { alphas.map { ((1 - $0) / $0).squareRoot() } }

    private static func betas(_ config: SchedulerConfig, _ defaults: Defaults) -> [Float] {
        let count = config.trainTimesteps ?? 1000
        if let trained = config.trainedBetas { return trained.map { Float($0) } }
        let start = config.betaStart ?? defaults.start
        let end = config.betaEnd ?? defaults.end
        switch config.betaSchedule.flatMap(BetaSchedule.init) ?? defaults.schedule {
        case .linear: return evenly(from: start, to: end, count: count)
        case .scaledLinear:
            return evenly(from: start.squareRoot(), to: end.squareRoot(), count: count).map { $0 * $0 }
        case .cosine: return cosine(count: count)
        }
    }

    /// `torch.linspace` in fp32: from both ends to the middle, each number rounded once.
    static func evenly(from start: Double, to end: Double, count: Int) -> [Float] {
        let (first, last) = (Float(start), Float(end))
        let step = Double((last - first) / Float(count - 1))
        return (0..<count).map { index in
            index < count / 2
                ? Float(Double(first) + step * Double(index))
                : Float(Double(last) - step * Double(count - 1 - index))
        }
    }

    private static func cosine(count: Int) -> [Float] {
        func left(_ time: Double) -> Double {
            let cosine = cos((time + 0.008) / 1.008 * Double.pi / 2)
            return cosine * cosine
        }
        return (0..<count).map { index in
            let ratio = left(Double(index + 1) / Double(count)) / left(Double(index) / Double(count))
            return Float(min(1 - ratio, 0.999))
        }
    }

    /// Rescaled so that nothing of the picture is left at the last timestep.
    ///
    /// Source: "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891.
    private static func endingInNoise(_ betas: [Float]) -> [Float] {
        var roots = products(of: betas).map { $0.squareRoot() }
        let (first, last) = (roots[0], roots[roots.count - 1])
        let scale = first / (first - last)
        roots = roots.map { ($0 - last) * scale }
        let squares = roots.map { $0 * $0 }
        return squares.indices.map { 1 - (($0 == 0) ? squares[0] : squares[$0] / squares[$0 - 1]) }
    }

    /// `cumprod(1 - betas)`: torch multiplies in fp64 and rounds each product.
    private static func products(of betas: [Float]) -> [Float] {
        var product = 1.0
        return betas.map { beta in
            product *= Double(1 - beta)
            return Float(product)
        }
    }
}
