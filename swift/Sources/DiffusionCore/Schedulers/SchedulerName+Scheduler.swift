extension SchedulerName {
    /// A scheduler at its beginning, with a model's own settings.
    ///
    /// What the name says wins over the settings, as in `coreml-sd generate`; what neither says comes
    /// from the defaults of the scheduler's diffusers class.
    ///
    /// - Parameters:
    ///   - config: `pipeline.scheduler` of the manifest.
    ///   - steps: how many steps are asked for; PNDM takes one more.
    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` for a number of steps that the scheduler
    ///   cannot take; ``DiffusionError/unsupportedScheduler(reason:)`` for a setting that it cannot
    ///   honour.
    public func scheduler(config: SchedulerConfig, steps: Int) throws -> any Scheduler {
        try config.requireSupported(for: self)
        let train = config.trainTimesteps ?? 1000
        let most = self == .lcm || self == .tcd ? config.originalInferenceSteps ?? 50 : train
        guard steps >= 1, steps <= most else {
            throw DiffusionError.invalidRequest(reason: "steps = \(steps): give a number from 1 to \(most)")
        }
        return switch self {
        case .dpmSolver, .dpmSolverKarras: try DPMSolver(config, steps: steps, for: self)
        case .ddim: try OneStepScheduler.ddim(config, steps: steps)
        case .pndm: try PNDM(config, steps: steps)
        case .euler: try OneStepScheduler.euler(config, steps: steps)
        case .eulerAncestral: try OneStepScheduler.eulerAncestral(config, steps: steps)
        case .uniPC: try UniPC(config, steps: steps)
        case .lcm: OneStepScheduler.lcm(config, steps: steps)
        case .tcd: OneStepScheduler.tcd(config, steps: steps)
        case .flowMatchEuler: OneStepScheduler.flowMatchEuler(config, steps: steps)
        }
    }
}
