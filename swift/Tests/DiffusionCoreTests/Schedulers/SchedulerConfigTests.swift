import Foundation
import Testing

@testable import DiffusionCore

@Suite struct SchedulerConfigTests {
    private func config(_ json: String) throws -> SchedulerConfig {
        try SchedulerConfig(JSONDecoder().decode(JSONValue.self, from: Data(json.utf8)))
    }

    @Test func unknownKeysAreIgnored() throws {
        let json = #"{"_class_name": "X", "beta_start": 0.001, "trained_betas": null, "new": [1]}"#
        let config = try config(json)
        #expect(config.betaStart == 0.001)
        #expect(config.trainedBetas == nil)
        _ = try SchedulerName.dpmSolver.scheduler(config: config, steps: 3)
    }

    @Test func aConfigSurvivesBeingSaved() throws {
        let config = try config(#"{"beta_schedule": "linear", "use_karras_sigmas": true, "shift": 3.0}"#)
        let saved = try JSONEncoder().encode(config)
        #expect(try JSONDecoder().decode(SchedulerConfig.self, from: saved) == config)
    }

    @Test(arguments: [
        (SchedulerName.dpmSolver, #"{"thresholding": true}"#, "thresholding"),
        (.dpmSolverKarras, #"{"use_exponential_sigmas": true}"#, "use_exponential_sigmas"),
        (.dpmSolverKarras, #"{"use_beta_sigmas": true}"#, "use_beta_sigmas"),
        (.dpmSolver, #"{"use_flow_sigmas": true}"#, "use_flow_sigmas"),
        (.dpmSolver, #"{"lambda_min_clipped": -5.1}"#, "lambda_min_clipped"),
        (.dpmSolver, #"{"variance_type": "learned_range"}"#, "variance_type"),
        (.dpmSolver, #"{"solver_type": "other"}"#, "solver_type"),
        (.ddim, #"{"thresholding": true}"#, "thresholding"),
        (.ddim, #"{"beta_schedule": "laplace"}"#, "beta_schedule"),
        (.ddim, #"{"trained_betas": [0.1, 0.2]}"#, "betas"),
        (.pndm, #"{"prediction_type": "sample"}"#, "prediction_type"),
        (.eulerAncestral, #"{"prediction_type": "sample"}"#, "prediction_type"),
        (.euler, #"{"prediction_type": "flow_prediction"}"#, "prediction_type"),
        (.euler, #"{"sigma_data": 0.5}"#, "sigma_data"),
        (.euler, #"{"beta_start": null}"#, "beta_start"),
        (.euler, #"{"beta_start": "0.1"}"#, "beta_start"),
        (.euler, #"{"timestep_spacing": "random"}"#, "timestep_spacing"),
        (.lcm, #"{"thresholding": true}"#, "thresholding"),
        (.lcm, #"{"original_inference_steps": 2000}"#, "original_inference_steps"),
        (.uniPC, #"{"predict_x0": false}"#, "predict_x0"),
        (.uniPC, #"{"solver_order": 4}"#, "solver_order"),
        (.flowMatchEuler, #"{"use_dynamic_shifting": true}"#, "use_dynamic_shifting"),
        (.flowMatchEuler, #"{"prediction_type": "epsilon"}"#, "flow matching"),
    ])
    func whatCannotBeHonouredIsRefused(name: SchedulerName, json: String, word: String) throws {
        let config = try config(json)
        let error = #expect(throws: DiffusionError.self) { try name.scheduler(config: config, steps: 4) }
        guard case .unsupportedScheduler(let reason) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains(word))
        #expect(reason.contains(name.rawValue))
    }

    @Test(arguments: [
        (SchedulerName.tcd, #"{"thresholding": true, "clip_sample": true}"#),
        (.pndm, #"{"rescale_betas_zero_snr": true, "thresholding": true}"#),
        (.eulerAncestral, #"{"use_exponential_sigmas": true}"#),
        (.dpmSolver, #"{"algorithm_type": "sde-dpmsolver++", "solver_order": 3, "solver_type": "bh2"}"#),
        (.uniPC, #"{"solver_type": "midpoint"}"#),
    ])
    func whatDiffusersDoesNotReadIsNotRefused(name: SchedulerName, json: String) throws {
        #expect(throws: Never.self) { try name.scheduler(config: config(json), steps: 4) }
    }

    @Test(arguments: SchedulerName.allCases)
    func stepsHaveLimits(name: SchedulerName) throws {
        for steps in [0, -1, 1001] {
            #expect(throws: DiffusionError.self) {
                try name.scheduler(config: SchedulerConfig(), steps: steps)
            }
        }
        #expect(throws: Never.self) { try name.scheduler(config: SchedulerConfig(), steps: 1) }
    }

    @Test func aDistilledModelTakesNoMoreStepsThanItWasDistilledFrom() throws {
        let told = DiffusionError.invalidRequest(reason: "steps = 51: give a number from 1 to 50")
        #expect(throws: told) {
            try SchedulerName.lcm.scheduler(config: SchedulerConfig(), steps: 51)
        }
    }

    @Test func aTimestepOutsideTheTrainingIsRefused() throws {
        var config = SchedulerConfig()
        config.stepsOffset = 1
        let told = DiffusionError.invalidRequest(
            reason: "steps = 1000: one lies outside the model's 1000; take fewer steps")
        #expect(throws: told) { try SchedulerName.ddim.scheduler(config: config, steps: 1000) }
    }

    @Test(arguments: [SchedulerName.dpmSolver, .uniPC])
    func twoStepsOnOneNoiseLevelAreRefused(name: SchedulerName) throws {
        let told = DiffusionError.invalidRequest(
            reason: "steps = 1000: the noise does not fall in each; take fewer steps")
        #expect(throws: told) { try name.scheduler(config: SchedulerConfig(), steps: 1000) }
    }
}
