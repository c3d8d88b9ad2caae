/// A model's scheduler settings in the words of diffusers: `pipeline.scheduler` of the manifest.
///
/// nil where the model says nothing: each scheduler then takes the default of its own diffusers
/// class. Keys that no scheduler here knows are ignored.
public struct SchedulerConfig: Sendable, Hashable, Codable {
    /// The diffusers class of the model's own scheduler.
    public var className: String?

    // What noise was added in training.
    public var trainTimesteps: Int?
    public var betaStart: Double?
    public var betaEnd: Double?
    public var betaSchedule: String?
    public var trainedBetas: [Double]?
    public var rescaleBetasZeroSNR: Bool?
    public var predictionType: String?
    /// Only EDM models have one.
    public var sigmaData: Double?

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
    public var timeShiftType: String?
    public var invertSigmas: Bool?
    public var stochasticSampling: Bool?

    // How a step is computed.
    public var solverOrder: Int?
    public var solverType: String?
    public var solverP: JSONValue?
    public var lowerOrderFinal: Bool?
    public var eulerAtFinal: Bool?
    public var predictX0: Bool?
    public var disableCorrector: [Int]?
    public var varianceType: String?
    public var clipSample: Bool?
    public var clipSampleRange: Double?
    public var thresholding: Bool?

    /// Settings that are null, or of another type than diffusers takes, and what is wrong with them.
    var problems: [CodingKeys: String] = [:]

    /// Says nothing: every scheduler takes its own defaults.
    public init() {}

    enum CodingKeys: String, CodingKey {
        case className = "_class_name"
        case trainTimesteps = "num_train_timesteps"
        case betaStart = "beta_start"
        case betaEnd = "beta_end"
        case betaSchedule = "beta_schedule"
        case trainedBetas = "trained_betas"
        case rescaleBetasZeroSNR = "rescale_betas_zero_snr"
        case predictionType = "prediction_type"
        case sigmaData = "sigma_data"
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
        case timeShiftType = "time_shift_type"
        case invertSigmas = "invert_sigmas"
        case stochasticSampling = "stochastic_sampling"
        case solverOrder = "solver_order"
        case solverType = "solver_type"
        case solverP = "solver_p"
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
    /// As a manifest holds it. A setting of the wrong type is noted, and refused by schedulers that
    /// read it.
    ///
    /// - Throws: ``DiffusionError/corruptedManifest(reason:)`` for what is no table.
    public init(_ json: JSONValue) throws {
        guard case .object(var table) = json else {
            throw DiffusionError.corruptedManifest(reason: "pipeline.scheduler is no table; convert again")
        }
        var problems: [CodingKeys: String] = [:]
        for (key, value) in table where value == .null {
            guard let key = CodingKeys(rawValue: key), !Self.nullable.contains(key) else { continue }
            problems[key] = "is null"
        }
        while true {
            do {
                self = try JSONValue.object(table).decode(as: SchedulerConfig.self)
                break
            } catch let DecodingError.typeMismatch(_, context), let DecodingError.dataCorrupted(context),
                let DecodingError.valueNotFound(_, context)
            {
                guard let key = context.codingPath.first.flatMap({ CodingKeys(rawValue: $0.stringValue) }),
                    table.removeValue(forKey: key.rawValue) != nil
                else { throw DiffusionError.corruptedManifest(reason: "pipeline.scheduler; convert again") }
                problems[key] = "is of another type"
            } catch {
                throw DiffusionError.corruptedManifest(reason: "pipeline.scheduler; convert again")
            }
        }
        self.problems = problems
    }

    private static let nullable: Set<CodingKeys> = [
        .className, .sigmaData, .trainedBetas, .sigmaMin, .sigmaMax, .shiftTerminal, .varianceType, .solverP,
    ]

    /// What the network predicts, where the config can be honoured.
    var prediction: PredictionType { predictionType.flatMap(PredictionType.init) ?? .epsilon }

    /// Where the last step ends.
    var final: FinalSigma { finalSigmasType.flatMap(FinalSigma.init) ?? .zero }

    /// How timesteps are spread.
    func spacing(or fallback: TimestepSpacing) -> TimestepSpacing {
        timestepSpacing.flatMap(TimestepSpacing.init) ?? fallback
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
