import Foundation

/// Sigmas of the training, and those of a run that are read from them.
struct SigmaTable: Sendable {
    private let sigmas: [Float]
    private let logarithms: [Float]

    init(_ schedule: NoiseSchedule) {
        sigmas = schedule.sigmas
        logarithms = sigmas.map { log($0) }
    }

    /// Of the first timestep: the least noise.
    var least: Double { Double(sigmas[0]) }

    /// Of the last timestep.
    var most: Double { Double(sigmas[sigmas.count - 1]) }

    /// Interpolated between two timesteps.
    func sigma(at timestep: Double) -> Double {
        let last = sigmas.count - 1
        guard timestep > 0 else { return Double(sigmas[0]) }
        guard timestep < Double(last) else { return Double(sigmas[last]) }
        let low = Int(timestep)
        let (below, above) = (Double(sigmas[low]), Double(sigmas[low + 1]))
        return (above - below) * (timestep - Double(low)) + below
    }

    /// `count` sigmas from the most to the least noise, spread evenly in their logarithms; fp32 as in
    /// diffusers.
    func logLinear(count: Int) -> [Double] {
        NoiseSchedule.evenly(
            from: Double(logarithms[logarithms.count - 1]), to: Double(logarithms[0]), count: count
        ).map { Double(exp($0)) }
    }

    /// From the most to the least noise, spread evenly in their logarithms, whose ends are fp32.
    ///
    /// Source: Lu et al., "DPM-Solver", arXiv 2206.00927.
    func lu(count: Int) -> [Double] {
        let (first, last) = (Double(logarithms[logarithms.count - 1]), Double(logarithms[0]))
        return TimestepSpacing.linspace(from: 0, to: 1, count: count).map { exp(first + $0 * (last - first)) }
    }

    /// The timestep at which a sigma lies, interpolated between the logarithms.
    func timestep(of sigma: Double) -> Double {
        let logarithm = log(max(sigma, 1e-10))
        let reached = logarithms.lastIndex { Double($0) <= logarithm } ?? 0
        let low = min(reached, logarithms.count - 2)
        // The distance in fp32 as in diffusers: where timesteps are cut to whole ones, the last digit counts.
        let (below, distance) = (Double(logarithms[low]), Double(logarithms[low] - logarithms[low + 1]))
        let weight = min(max((below - logarithm) / distance, 0), 1)
        return (1 - weight) * Double(low) + weight * Double(low + 1)
    }

    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where the noise does not fall in each step.
    static func requireFalling(_ run: [Double]) throws {
        guard zip(run, run.dropFirst()).allSatisfy({ Float($0) > Float($1) }) else {
            throw DiffusionError.invalidRequest(
                reason: "steps = \(run.count): the noise does not fall in each; take fewer steps")
        }
    }

    /// Sigmas from `most` down to `least`, spread evenly in their logarithms.
    static func exponential(from most: Double, to least: Double, count: Int) -> [Double] {
        TimestepSpacing.linspace(from: log(most), to: log(least), count: count).map { exp($0) }
    }

    /// Sigmas from `most` down to `least`, spread evenly in their 7th roots.
    ///
    /// Source: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
    /// arXiv 2206.00364.
    static func karras(from most: Double, to least: Double, count: Int) -> [Double] {
        let rho = 7.0
        let (first, last) = (pow(most, 1 / rho), pow(least, 1 / rho))
        return TimestepSpacing.linspace(from: 0, to: 1, count: count).map {
            pow(first + $0 * (last - first), rho)
        }
    }
}
