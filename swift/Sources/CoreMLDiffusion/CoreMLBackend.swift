#if canImport(CoreML)
import CoreML
import DiffusionCore
import Foundation

/// Runs networks with Core ML.
///
/// A `.mlpackage` is compiled for this device once and kept in a ``CompiledModelCache``; a
/// `.mlmodelc` is loaded as it is.
public struct CoreMLBackend: ModelBackend {
    public let name = "coreml"
    public let target = Target.coreml
    public let options: CoreMLOptions

    private let cache: CompiledModelCache
    private let environment: [String: String]

    public init(options: CoreMLOptions = CoreMLOptions(), cache: CompiledModelCache = .shared) {
        self.init(
            options: options, cache: cache, environment: ProcessInfo.processInfo.environment)
    }

    init(options: CoreMLOptions, cache: CompiledModelCache, environment: [String: String]) {
        self.options = options
        self.cache = cache
        self.environment = environment
    }

    public func load(_ file: ModelFile) async throws -> any Network {
        try await network(for: file)
    }

    /// Compile and load once: Core ML also keeps what it prepares for the Neural Engine.
    public func prewarm(_ file: ModelFile) async throws {
        try await network(for: file).unload()
    }

    /// Declared inputs and outputs, read on the CPU because that loads quickest.
    public func interface(of file: URL) async throws -> NetworkInterface {
        let file = ModelFile(
            url: file, component: Component(rawValue: file.deletingPathExtension().lastPathComponent),
            contentHash: "", weightBytes: 0, inputs: [], outputs: [])
        let reader = CoreMLBackend(
            options: CoreMLOptions(computeUnits: .cpuOnly, prefersFastPrediction: false),
            cache: cache, environment: [:])
        let network = try await reader.network(for: file)
        await network.unload()
        return network.interface
    }

    private func network(for file: ModelFile) async throws -> CoreMLNetwork {
        guard FileManager.default.fileExists(atPath: file.url.path) else {
            throw DiffusionError.missingFile(name: file.url.lastPathComponent)
        }
        return try await naming(file.url) {
            guard file.url.pathExtension != "mlmodelc" else {
                return try await load(file, from: file.url)
            }
            let compiled = try await cache.model(for: file.url, contentHash: file.contentHash)
            do {
                return try await load(file, from: compiled.url)
            } catch where compiled.isOld && isFromCoreML(error) {
                // What was kept may have been damaged since; a fresh one decides.
                await cache.discard(compiled)
                let fresh = try await cache.model(for: file.url, contentHash: file.contentHash)
                return try await load(file, from: fresh.url)
            }
        }
    }

    private func load(_ file: ModelFile, from compiled: URL) async throws -> CoreMLNetwork {
        try Task.checkCancellation()
        let configuration = try options.configuration(for: file, environment: environment)
        let model = try await MLModel.load(contentsOf: compiled, configuration: configuration)
        return try CoreMLNetwork(model: model, name: file.url.lastPathComponent)
    }
}

/// Name the file in an error of Core ML or of the file system.
func naming<Result: Sendable>(
    _ file: URL, _ work: () async throws -> Result
) async throws -> Result {
    do {
        return try await work()
    } catch where isFromCoreML(error) {
        throw failure(of: file.lastPathComponent, error)
    }
}

/// An error of this package for one of Core ML, on one line.
func failure(of file: String, _ error: any Error) -> DiffusionError {
    let lines = error.localizedDescription.split(whereSeparator: \.isNewline)
    return .backendFailed(backend: "coreml", file: file, reason: lines.joined(separator: " "))
}

private func isFromCoreML(_ error: any Error) -> Bool {
    !(error is DiffusionError || error is CancellationError)
}
#endif
