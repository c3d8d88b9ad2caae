import DiffusionCore
import Foundation

extension DiffusionPipeline {
    /// A pipeline for a bundle of `coreml-sd convert`, or one of apple/ml-stable-diffusion.
    ///
    /// - Parameters:
    ///   - url: the bundle's folder.
    ///   - backend: ``BackendChoice/automatic`` picks what suits the platform and the bundle.
    ///   - memoryPolicy: nil takes what fits the memory that is free now.
    ///   - checking: how closely the files are compared with the manifest first.
    /// - Throws: ``DiffusionError``.
    public init(
        bundle url: URL, backend: BackendChoice = .automatic,
        settings: BackendSettings = BackendSettings(), memoryPolicy: MemoryPolicy? = nil,
        checking: ModelBundle.FileCheck = .checksums
    ) async throws {
        let backend = try backend.open(for: url, settings)
        let bundle = try await AppleBundle.open(url, backend: backend, checking: checking)
        try self.init(bundle: bundle, backend: backend, memoryPolicy: memoryPolicy)
    }
}
