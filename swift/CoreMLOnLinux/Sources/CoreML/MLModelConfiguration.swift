import Foundation

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly = 0
    case cpuAndGPU = 1
    case all = 2
    case cpuAndNeuralEngine = 3
}

open class MLModelConfiguration: NSObject {
    public var modelDisplayName: String?
    public var computeUnits = MLComputeUnits.all
    public var allowLowPrecisionAccumulationOnGPU = false
    public var optimizationHints = MLOptimizationHints()
    public var functionName: String?

    public override init() {}

    var recorded: StandInCall.Configuration {
        StandInCall.Configuration(
            computeUnits: computeUnits, functionName: functionName, displayName: modelDisplayName,
            hints: optimizationHints, lowPrecision: allowLowPrecisionAccumulationOnGPU)
    }
}

public struct MLOptimizationHints: Equatable, Sendable {
    public enum ReshapeFrequency: Int, Sendable {
        case frequent
        case infrequent
    }

    public enum SpecializationStrategy: Int, Sendable {
        case `default`
        case fastPrediction
    }

    public var reshapeFrequency = ReshapeFrequency.frequent
    public var specializationStrategy = SpecializationStrategy.default

    public init() {}
}
