extension SchedulerConfig {
    /// Why a scheduler cannot honour a config: the key, what is wrong with it, what to do.
    struct Refusal: Sendable {
        var key: String
        var problem: String
        var remedy = "choose another scheduler"

        init(_ key: CodingKeys, _ problem: String, remedy: String? = nil) {
            (self.key, self.problem) = (key.rawValue, problem)
            if let remedy { self.remedy = remedy }
        }

        static func corrected(_ key: CodingKeys, _ problem: String) -> Refusal {
            Refusal(key, problem, remedy: "correct \(key.rawValue) in the scheduler config")
        }

        static func unsupported(_ key: CodingKeys) -> Refusal { Refusal(key, "is not supported") }
    }

    /// Refuse what a scheduler cannot honour: the rule of `coreml_sd/schedulers/supported.py`.
    ///
    /// - Throws: ``DiffusionError/unsupportedScheduler(reason:)``, which names the config's key.
    func requireSupported(for name: SchedulerName) throws {
        guard let refusal = refusal(for: name) else { return }
        throw DiffusionError.unsupportedScheduler(
            reason: "scheduler \(name.rawValue): the model's \(refusal.key) \(refusal.problem);"
                + " \(refusal.remedy)")
    }

    /// The first reason, in the order of the Python side; nil where the scheduler can.
    func refusal(for name: SchedulerName) -> Refusal? {
        otherNoise ?? types(name) ?? prediction(name) ?? betas(name) ?? zeroSNR(name) ?? timesteps(name)
            ?? sigmas(name) ?? cleanLatent(name) ?? solver(name) ?? flow(name)
    }

    /// EDM models were trained without betas; a class with betas would invent some.
    private var otherNoise: Refusal? {
        let told = "is of an EDM model, for which there is no scheduler"
        let remedy = "convert a model that was trained with betas or flow matching"
        if sigmaData != nil || problems[.sigmaData] != nil { return Refusal(.sigmaData, told, remedy: remedy) }
        return className?.hasPrefix("EDM") == true ? Refusal(.className, told, remedy: remedy) : nil
    }

    private func types(_ name: SchedulerName) -> Refusal? {
        for key in name.read {
            if name == .dpmSolverKarras, key == .useKarrasSigmas { continue }  // the name says it
            if let problem = problems[key] { return .corrected(key, problem) }
        }
        return nil
    }

    private func prediction(_ name: SchedulerName) -> Refusal? {
        let isFlow = className?.hasPrefix("FlowMatch") == true
        let predicts = predictionType ?? (isFlow ? "flow_prediction" : "epsilon")
        guard name != .flowMatchEuler else {
            let saysNothing =
                className == nil && predictionType == nil && betaStart == nil && betaEnd == nil
                && betaSchedule == nil && trainedBetas == nil
            return predicts == "flow_prediction" || saysNothing
                ? nil : Refusal(.predictionType, "is \(predicts), not that of a model trained with flow matching")
        }
        if predicts == "flow_prediction" {
            return Refusal(.predictionType, "is \(predicts)", remedy: "choose flow-match-euler")
        }
        let allowed: [PredictionType] =
            [.pndm, .eulerAncestral].contains(name) ? [.epsilon, .velocity] : PredictionType.allCases
        return word(.predictionType, predicts, among: allowed.map(\.rawValue))
    }

    private func betas(_ name: SchedulerName) -> Refusal? {
        let count = trainTimesteps ?? 1000
        if count < 2 { return .corrected(.trainTimesteps, "is \(count)") }
        if name == .flowMatchEuler { return nil }
        func isBeta(_ value: Double?) -> Bool { value.map { $0 > 0 && $0 < 1 } ?? true }
        if let trainedBetas {
            if trainedBetas.count != count {
                return .corrected(.trainedBetas, "are not as many as its \(count) timesteps")
            }
            return trainedBetas.allSatisfy { isBeta($0) }
                ? nil : .corrected(.trainedBetas, "do not lie between 0 and 1")
        }
        let schedules = NoiseSchedule.BetaSchedule.allCases.map(\.rawValue)
        if let refusal = word(.betaSchedule, betaSchedule, among: schedules) { return refusal }
        if betaSchedule == NoiseSchedule.BetaSchedule.cosine.rawValue { return nil }
        if !isBeta(betaStart) { return .corrected(.betaStart, "does not lie between 0 and 1") }
        return isBeta(betaEnd) ? nil : .corrected(.betaEnd, "does not lie between 0 and 1")
    }

    /// Noise alone says nothing of the picture where the network predicts that noise.
    private func zeroSNR(_ name: SchedulerName) -> Refusal? {
        let divides = [SchedulerName.ddim, .lcm, .tcd].contains(name)
        let predictsNoise = (predictionType ?? "epsilon") == "epsilon"
        return divides && predictsNoise && rescaleBetasZeroSNR == true
            ? Refusal(.rescaleBetasZeroSNR, "ends in noise alone, and its network predicts noise") : nil
    }

    private func timesteps(_ name: SchedulerName) -> Refusal? {
        let train = trainTimesteps ?? 1000
        if name.read.contains(.timestepSpacing) {
            let spacings = TimestepSpacing.allCases.map(\.rawValue)
            if let refusal = word(.timestepSpacing, timestepSpacing, among: spacings) { return refusal }
            if let stepsOffset, !(0..<train).contains(stepsOffset) {
                return .corrected(.stepsOffset, "is \(stepsOffset)")
            }
        }
        if name.read.contains(.originalInferenceSteps), !(1...train).contains(originalInferenceSteps ?? 50) {
            return Refusal(.originalInferenceSteps, "does not lie between 1 and \(train)")
        }
        return nil
    }

    private func sigmas(_ name: SchedulerName) -> Refusal? {
        guard name.read.contains(.finalSigmasType) else { return nil }
        let ends = FinalSigma.allCases.map(\.rawValue)
        if let refusal = word(.finalSigmasType, finalSigmasType, among: ends) { return refusal }
        if useBetaSigmas == true { return .unsupported(.useBetaSigmas) }
        if useFlowSigmas == true, name != .euler { return .unsupported(.useFlowSigmas) }
        let usesKarras = useKarrasSigmas == true || name == .dpmSolverKarras
        if usesKarras, useExponentialSigmas == true {
            return Refusal(.useExponentialSigmas, "excludes Karras sigmas")
        }
        if name.isDPM, let lambdaMinClipped, lambdaMinClipped > -.infinity {
            return .unsupported(.lambdaMinClipped)
        }
        if usesKarras || useExponentialSigmas == true {
            if let sigmaMin, sigmaMin <= 0 { return .corrected(.sigmaMin, "is \(sigmaMin), not above 0") }
            if let sigmaMax, sigmaMax <= 0 { return .corrected(.sigmaMax, "is \(sigmaMax), not above 0") }
        }
        guard name == .euler else { return nil }
        return word(.interpolationType, interpolationType, among: ["linear", "log_linear"])
            ?? word(.timestepType, timestepType, among: ["discrete", "continuous"])
    }

    /// What is done to the predicted clean latent.
    private func cleanLatent(_ name: SchedulerName) -> Refusal? {
        if name.read.contains(.thresholding), thresholding == true { return .unsupported(.thresholding) }
        if name.isDPM, let varianceType, varianceType.hasPrefix("learned") {
            return Refusal(.varianceType, "is \(varianceType)")
        }
        if name.read.contains(.clipSample), clipSample == true, let clipSampleRange, clipSampleRange <= 0 {
            return .corrected(.clipSampleRange, "is \(clipSampleRange), not above 0")
        }
        return nil
    }

    private func solver(_ name: SchedulerName) -> Refusal? {
        guard name.isDPM || name == .uniPC else { return nil }
        let solvers = ["midpoint", "heun", "logrho", "bh1", "bh2"]
        if let refusal = word(.solverType, solverType, among: solvers) { return refusal }
        let endsClean = (finalSigmasType ?? "zero") == "zero"
        let spreads =
            name == .dpmSolverKarras || useKarrasSigmas == true || useExponentialSigmas == true
            || useLuLambdas == true
        if name.isDPM, solverType == "heun", !endsClean, spreads, eulerAtFinal != true {
            return Refusal(.solverType, "is heun, which cannot end at the sigma that it comes from")
        }
        guard name == .uniPC else { return nil }
        if solverType == "bh1", endsClean {
            return Refusal(.solverType, "is bh1, which cannot end at a sigma of 0")
        }
        let order = solverOrder ?? 2
        if !(1...3).contains(order) { return Refusal(.solverOrder, "is \(order), not between 1 and 3") }
        if endsClean, order > 1, lowerOrderFinal == false {
            return Refusal(.lowerOrderFinal, "is false, and the last sigma 0")
        }
        if predictX0 == false { return Refusal(.predictX0, "is false") }
        return solverP == nil ? nil : .unsupported(.solverP)
    }

    private func flow(_ name: SchedulerName) -> Refusal? {
        guard name == .uniPC || name == .flowMatchEuler else { return nil }
        if useDynamicShifting == true { return .unsupported(.useDynamicShifting) }
        if let shiftTerminal, shiftTerminal != 0 { return .unsupported(.shiftTerminal) }
        guard name == .flowMatchEuler else { return nil }
        let asked: [(CodingKeys, Bool?)] = [
            (.useKarrasSigmas, useKarrasSigmas), (.useExponentialSigmas, useExponentialSigmas),
            (.useBetaSigmas, useBetaSigmas), (.invertSigmas, invertSigmas),
            (.stochasticSampling, stochasticSampling),
        ]
        if let (key, _) = asked.first(where: { $0.1 == true }) { return .unsupported(key) }
        if let refusal = word(.timeShiftType, timeShiftType, among: ["exponential", "linear"]) { return refusal }
        guard let shift, shift <= 0 else { return nil }
        return .corrected(.shift, "is \(shift), not above 0")
    }

    private func word(_ key: CodingKeys, _ word: String?, among allowed: [String]) -> Refusal? {
        guard let word, !allowed.contains(word) else { return nil }
        return Refusal(key, "is \(word), supported are \(allowed.joined(separator: ", "))")
    }
}

extension SchedulerName {
    var isDPM: Bool { self == .dpmSolver || self == .dpmSolverKarras }

    /// The settings that a scheduler reads, in the order in which a wrong one is told.
    var read: [SchedulerConfig.CodingKeys] {
        let noise: [SchedulerConfig.CodingKeys] = [
            .trainTimesteps, .betaStart, .betaEnd, .betaSchedule, .trainedBetas, .predictionType,
        ]
        let spacing: [SchedulerConfig.CodingKeys] = [.timestepSpacing, .stepsOffset]
        let sigmas: [SchedulerConfig.CodingKeys] = [
            .useKarrasSigmas, .useExponentialSigmas, .useBetaSigmas, .sigmaMin, .sigmaMax,
            .finalSigmasType, .rescaleBetasZeroSNR,
        ]
        let distilled = noise + [.rescaleBetasZeroSNR, .originalInferenceSteps]
        return switch self {
        case .dpmSolver, .dpmSolverKarras:
            noise + spacing + sigmas + [
                .useLuLambdas, .useFlowSigmas, .lambdaMinClipped, .thresholding, .varianceType,
                .solverType, .lowerOrderFinal, .eulerAtFinal,
            ]
        case .ddim:
            noise + spacing + [
                .rescaleBetasZeroSNR, .setAlphaToOne, .thresholding, .clipSample, .clipSampleRange,
            ]
        case .pndm: noise + spacing + [.setAlphaToOne]
        case .euler: noise + spacing + sigmas + [.interpolationType, .timestepType]
        case .eulerAncestral: noise + spacing + [.rescaleBetasZeroSNR]
        case .uniPC:
            noise + spacing + sigmas + [
                .useFlowSigmas, .useDynamicShifting, .shiftTerminal, .thresholding, .solverType,
                .solverOrder, .solverP, .lowerOrderFinal, .predictX0, .disableCorrector,
            ]
        case .lcm: distilled + [.timestepScaling, .thresholding, .clipSample, .clipSampleRange]
        case .tcd: distilled
        case .flowMatchEuler:
            [
                .trainTimesteps, .shift, .shiftTerminal, .useDynamicShifting, .timeShiftType,
                .useKarrasSigmas, .useExponentialSigmas, .useBetaSigmas, .invertSigmas,
                .stochasticSampling,
            ]
        }
    }
}
