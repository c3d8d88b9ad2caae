import DiffusionCore
import Foundation

/// How Core ML is asked to run the networks.
public struct CoreMLOptions: Sendable, Hashable {
    /// What a network may run on.
    public enum ComputeUnits: String, Sendable, Hashable, Codable, CaseIterable {
        /// Whatever Core ML finds best.
        case all
        case cpuOnly = "cpu-only"
        case cpuAndGPU = "cpu-and-gpu"
        case cpuAndNeuralEngine = "cpu-and-ne"
    }

    /// The environment variable that overrules every choice of compute units, with the value of a
    /// case: for machines without a Neural Engine, where a load can otherwise hang.
    public static let environmentVariable = "COREML_SD_COMPUTE_UNITS"

    /// For components that ``overrides`` does not name.
    public var computeUnits: ComputeUnits
    public var overrides: [Component: ComputeUnits]
    /// Core ML may spend more time on loading to predict faster; from iOS 18 and macOS 15 on.
    public var prefersFastPrediction: Bool
    /// Let the GPU add up in fp16: quicker, less exact.
    public var allowsLowPrecisionAccumulation: Bool

    public init(
        computeUnits: ComputeUnits = .all, overrides: [Component: ComputeUnits] = [:],
        prefersFastPrediction: Bool = true, allowsLowPrecisionAccumulation: Bool = false
    ) {
        self.computeUnits = computeUnits
        self.overrides = overrides
        self.prefersFastPrediction = prefersFastPrediction
        self.allowsLowPrecisionAccumulation = allowsLowPrecisionAccumulation
    }

    /// What a component runs on.
    ///
    /// - Throws: `DiffusionError.invalidRequest(reason:)` where the environment names no units.
    public func computeUnits(
        for component: Component,
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws -> ComputeUnits {
        guard let name = environment[Self.environmentVariable], !name.isEmpty else {
            return overrides[component] ?? computeUnits
        }
        guard let units = ComputeUnits(rawValue: name) else {
            let names = ComputeUnits.allCases.map(\.rawValue).joined(separator: ", ")
            throw DiffusionError.invalidRequest(
                reason: "\(Self.environmentVariable) is \(name); set it to one of \(names)")
        }
        return units
    }
}
