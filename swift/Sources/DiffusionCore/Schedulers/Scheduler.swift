/// How a latent gets from noise to picture: a list of timesteps, and what to do at each.
///
/// Values, not objects: a copy is a fresh start. Latents and predictions are flat arrays of the
/// same length; steps are counted from 0 in order.
public protocol Scheduler: Sendable {
    /// What the network is told at each step, in running order.
    var timesteps: [Float] { get }

    /// What the first noise is multiplied with.
    var initialNoiseScale: Float { get }

    /// What the latent is multiplied with before the network reads it at a step.
    func inputScale(step: Int) -> Float

    /// The next latent.
    ///
    /// - Parameters:
    ///   - prediction: the guided output of the network.
    ///   - step: index into ``timesteps``; steps are taken in order.
    ///   - noise: draws fresh normal noise; called only where the scheduler needs some.
    mutating func step(
        _ latent: [Float], prediction: [Float], step: Int, noise: (Int) -> [Float]
    ) -> [Float]

    /// A clean latent with the noise of a step, where img2img starts.
    func addNoise(to clean: [Float], noise: [Float], step: Int) -> [Float]
}

/// Schedulers by the names of `coreml-sd generate --scheduler`.
public enum SchedulerName: String, Sendable, Hashable, Codable, CaseIterable {
    case dpmSolver = "dpm++"
    case dpmSolverKarras = "dpm++-karras"
    case ddim
    case pndm
    case euler
    case eulerAncestral = "euler-a"
    case uniPC = "unipc"
    case lcm
    case tcd
    case flowMatchEuler = "flow-match-euler"
}
