import Foundation

/// Which backend runs the networks.
public enum BackendChoice: String, Sendable, Hashable, CaseIterable {
    /// Core ML where it exists and the bundle holds files for it, else LiteRT.
    case automatic = "auto"
    case coreml
    case litert
}

/// How a backend is set up.
public struct BackendSettings: Sendable, Hashable {
    /// What LiteRT runs the networks on.
    public enum Accelerator: String, Sendable, Hashable, CaseIterable {
        case cpu, gpu
    }

    /// What Core ML may run the networks on.
    public enum ComputeUnits: String, Sendable, Hashable, CaseIterable {
        case all
        case cpuOnly = "cpu-only"
        case cpuAndGPU = "cpu-and-gpu"
        case cpuAndNeuralEngine = "cpu-and-ne"
    }

    public var computeUnits: ComputeUnits
    public var accelerator: Accelerator
    /// LiteRT's library, where it is not found by itself.
    public var library: URL?
    /// Threads of LiteRT on the CPU; nil takes as many as there are fast cores, up to 4.
    public var threads: Int?

    public init(
        computeUnits: ComputeUnits = .all, accelerator: Accelerator = .cpu, library: URL? = nil,
        threads: Int? = nil
    ) {
        self.computeUnits = computeUnits
        self.accelerator = accelerator
        self.library = library
        self.threads = threads
    }
}
