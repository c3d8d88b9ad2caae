import Foundation
import Testing

@testable import DiffusionCore

@Suite struct SchedulerConfigTests {
    private func config(_ json: String) throws -> SchedulerConfig {
        try JSONDecoder().decode(SchedulerConfig.self, from: Data(json.utf8))
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
        (.dpmSolver, #"{"use_lu_lambdas": true}"#, "use_lu_lambdas"),
        (.dpmSolver, #"{"use_exponential_sigmas": true}"#, "use_exponential_sigmas"),
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
        (.euler, #"{"interpolation_type": "log_linear"}"#, "interpolation_type"),
        (.euler, #"{"timestep_type": "continuous"}"#, "timestep_type"),
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
        let told = DiffusionError.invalidRequest(reason: "scheduler lcm takes at most 50 steps, not 51")
        #expect(throws: told) {
            try SchedulerName.lcm.scheduler(config: SchedulerConfig(), steps: 51)
        }
    }

    @Test func aTimestepOutsideTheTrainingIsRefused() throws {
        var config = SchedulerConfig()
        config.stepsOffset = 1
        #expect(throws: DiffusionError.self) { try SchedulerName.ddim.scheduler(config: config, steps: 1000) }
    }
}
