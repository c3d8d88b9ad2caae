/// A model's scheduler settings in the words of diffusers: `pipeline.scheduler` of the manifest.
///
/// nil where the model says nothing: each scheduler then takes the default of its own diffusers
/// class. Keys that no scheduler here knows are ignored.
public struct SchedulerConfig: Sendable, Hashable, Codable {
    // What noise was added in training.
    public var trainTimesteps: Int?
    public var betaStart: Double?
    public var betaEnd: Double?
    public var betaSchedule: String?
    public var trainedBetas: [Double]?
    public var rescaleBetasZeroSNR: Bool?
    public var predictionType: String?

    // Which timesteps are taken.
    public var timestepSpacing: String?
    public var timestepType: String?
    public var stepsOffset: Int?
    public var setAlphaToOne: Bool?
    public var originalInferenceSteps: Int?
    public var timestepScaling: Double?

    // Which sigmas are taken.
    public var useKarrasSigmas: Bool?
    public var useExponentialSigmas: Bool?
    public var useBetaSigmas: Bool?
    public var useLuLambdas: Bool?
    public var useFlowSigmas: Bool?
    public var sigmaMin: Double?
    public var sigmaMax: Double?
    public var finalSigmasType: String?
    public var interpolationType: String?
    public var lambdaMinClipped: Double?
    public var shift: Double?
    public var shiftTerminal: Double?
    public var useDynamicShifting: Bool?
    public var invertSigmas: Bool?
    public var stochasticSampling: Bool?

    // How a step is computed.
    public var solverOrder: Int?
    public var solverType: String?
    public var lowerOrderFinal: Bool?
    public var eulerAtFinal: Bool?
    public var predictX0: Bool?
    public var disableCorrector: [Int]?
    public var varianceType: String?
    public var clipSample: Bool?
    public var clipSampleRange: Double?
    public var thresholding: Bool?

    /// Says nothing: every scheduler takes its own defaults.
    public init() {}

    enum CodingKeys: String, CodingKey {
        case trainTimesteps = "num_train_timesteps"
        case betaStart = "beta_start"
        case betaEnd = "beta_end"
        case betaSchedule = "beta_schedule"
        case trainedBetas = "trained_betas"
        case rescaleBetasZeroSNR = "rescale_betas_zero_snr"
        case predictionType = "prediction_type"
        case timestepSpacing = "timestep_spacing"
        case timestepType = "timestep_type"
        case stepsOffset = "steps_offset"
        case setAlphaToOne = "set_alpha_to_one"
        case originalInferenceSteps = "original_inference_steps"
        case timestepScaling = "timestep_scaling"
        case useKarrasSigmas = "use_karras_sigmas"
        case useExponentialSigmas = "use_exponential_sigmas"
        case useBetaSigmas = "use_beta_sigmas"
        case useLuLambdas = "use_lu_lambdas"
        case useFlowSigmas = "use_flow_sigmas"
        case sigmaMin = "sigma_min"
        case sigmaMax = "sigma_max"
        case finalSigmasType = "final_sigmas_type"
        case interpolationType = "interpolation_type"
        case lambdaMinClipped = "lambda_min_clipped"
        case shift
        case shiftTerminal = "shift_terminal"
        case useDynamicShifting = "use_dynamic_shifting"
        case invertSigmas = "invert_sigmas"
        case stochasticSampling = "stochastic_sampling"
        case solverOrder = "solver_order"
        case solverType = "solver_type"
        case lowerOrderFinal = "lower_order_final"
        case eulerAtFinal = "euler_at_final"
        case predictX0 = "predict_x0"
        case disableCorrector = "disable_corrector"
        case varianceType = "variance_type"
        case clipSample = "clip_sample"
        case clipSampleRange = "clip_sample_range"
        case thresholding
    }
}

extension SchedulerConfig {
    /// Refuse a setting that would change the numbers and that the scheduler cannot honour.
    ///
    /// - Throws: ``DiffusionError/unsupportedScheduler(reason:)`` where `asked`.
    func refuse(_ key: CodingKeys, _ asked: Bool?, for name: SchedulerName) throws {
        guard asked == true else { return }
        throw DiffusionError.unsupportedScheduler(
            reason: "scheduler \(name.rawValue): the model's \(key.rawValue) is not supported;"
                + " choose another scheduler")
    }

    /// A setting's value as one of several words.
    ///
    /// - Throws: ``DiffusionError/unsupportedScheduler(reason:)`` for another word.
    func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ key: CodingKeys, _ word: String?, or fallback: Choice, for name: SchedulerName,
        among allowed: [Choice] = Array(Choice.allCases)
    ) throws -> Choice {
        guard let word else { return fallback }
        if let choice = Choice(rawValue: word), allowed.contains(where: { $0.rawValue == word }) {
            return choice
        }
        let words = allowed.map(\.rawValue).joined(separator: ", ")
        throw DiffusionError.unsupportedScheduler(
            reason: "scheduler \(name.rawValue): the model's \(key.rawValue) is \(word),"
                + " supported are \(words); choose another scheduler")
    }
}

/// What the network predicts.
enum PredictionType: String, CaseIterable, Sendable {
    case epsilon
    case velocity = "v_prediction"
    case sample
}

/// Where the last step ends.
enum FinalSigma: String, CaseIterable, Sendable {
    case zero
    case sigmaMin = "sigma_min"
}
