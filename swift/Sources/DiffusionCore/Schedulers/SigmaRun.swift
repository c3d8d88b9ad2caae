/// Timesteps and sigmas of the solvers of several steps.
struct SigmaRun: Sendable {
    let timesteps: [Float]
    /// One more than timesteps.
    let sigmas: [Double]

    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where the noise does not fall in each step.
    init(_ config: SchedulerConfig, steps: Int, for name: SchedulerName) throws {
        let schedule = NoiseSchedule(config, .plain, floor: 0x1p-24)
        let table = SigmaTable(schedule)
        let most = config.sigmaMax ?? table.most
        let least = config.sigmaMin ?? table.least
        let isCosine = config.betaSchedule == NoiseSchedule.BetaSchedule.cosine.rawValue
        var run: [Double]
        var rounds = name == .uniPC || !isCosine
        if config.useKarrasSigmas == true || name == .dpmSolverKarras {
            run = SigmaTable.karras(from: most, to: least, count: steps)
        } else if config.useLuLambdas == true, name.isDPM {
            run = table.lu(count: steps)
        } else if config.useExponentialSigmas == true {
            run = SigmaTable.exponential(from: most, to: least, count: steps)
            rounds = false
        } else {
            let placed = config.spacing(or: .linspace).timesteps(
                steps, train: schedule.count, offset: config.stepsOffset ?? 0, leavesOutLast: true)
            run = placed.map { table.sigma(at: $0) }
            timesteps = placed.map { Float($0) }
            sigmas = try Self.ended(run, config, least: table.least)
            return
        }
        timesteps = run.map { sigma in
            let timestep = table.timestep(of: sigma)
            return Float(rounds ? timestep.rounded(.toNearestOrEven) : timestep.rounded(.towardZero))
        }
        // Where the sigmas of a run end, UniPC stays; otherwise the training's least noise.
        sigmas = try Self.ended(run, config, least: name == .uniPC ? run[run.count - 1] : table.least)
    }

    private static func ended(_ run: [Double], _ config: SchedulerConfig, least: Double) throws -> [Double] {
        try SigmaTable.requireFalling(run)
        return (run + [config.final == .zero ? 0 : least]).map { Double(Float($0)) }
    }
}
