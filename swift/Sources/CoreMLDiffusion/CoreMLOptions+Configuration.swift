#if canImport(CoreML)
import CoreML
import DiffusionCore
import Foundation

extension CoreMLOptions {
    /// What Core ML is told when it loads a file.
    ///
    /// - Throws: `DiffusionError.invalidRequest(reason:)` for an unknown name in the environment;
    ///   `DiffusionError.backendUnavailable(backend:reason:remedy:)` where this system cannot
    ///   pick one of several functions.
    func configuration(
        for file: ModelFile, environment: [String: String]
    ) throws -> MLModelConfiguration {
        let configuration = MLModelConfiguration()
        let units = try computeUnits(for: file.component, environment: environment)
        configuration.computeUnits = units.coreML
        configuration.allowLowPrecisionAccumulationOnGPU = allowsLowPrecisionAccumulation
        configuration.modelDisplayName = file.url.deletingPathExtension().lastPathComponent
        if #available(iOS 17.4, macOS 14.4, *) {
            configuration.optimizationHints = hints
        }
        if let function = file.function {
            guard #available(iOS 18, macOS 15, visionOS 2, *) else {
                throw DiffusionError.backendUnavailable(
                    backend: "coreml",
                    reason: "\(file.url.lastPathComponent) holds several sizes, which needs iOS 18 or macOS 15",
                    remedy: "convert again with one --size")
            }
            configuration.functionName = function
        }
        return configuration
    }

    /// Sizes never change within a network.
    @available(iOS 17.4, macOS 14.4, *)
    private var hints: MLOptimizationHints {
        var hints = MLOptimizationHints()
        hints.reshapeFrequency = .infrequent
        if prefersFastPrediction, #available(iOS 18, macOS 15, visionOS 2, *) {
            hints.specializationStrategy = .fastPrediction
        }
        return hints
    }
}

extension CoreMLOptions.ComputeUnits {
    var coreML: MLComputeUnits {
        switch self {
        case .all: .all
        case .cpuOnly: .cpuOnly
        case .cpuAndGPU: .cpuAndGPU
        case .cpuAndNeuralEngine: .cpuAndNeuralEngine
        }
    }
}
#endif
