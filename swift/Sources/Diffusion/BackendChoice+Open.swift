import CoreMLDiffusion
import DiffusionCore
import Foundation
import LiteRTDiffusion

extension BackendChoice {
    /// The backend itself.
    ///
    /// - Parameter url: the bundle that it is for; ``automatic`` looks at what it holds.
    func open(for url: URL, _ settings: BackendSettings) throws -> any ModelBackend {
        switch self {
        case .automatic: try (Self.suitsCoreML(url) ? BackendChoice.coreml : .litert).open(for: url, settings)
        case .coreml: try Self.coreML(settings)
        case .litert: try Self.liteRT(settings)
        }
    }

    private static func suitsCoreML(_ url: URL) throws -> Bool {
        #if canImport(Darwin)
        return try AppleBundle.isHere(url) || ModelBundle(at: url, checking: .nothing).targets.contains(.coreml)
        #else
        return false
        #endif
    }

    private static func coreML(_ settings: BackendSettings) throws -> any ModelBackend {
        #if canImport(Darwin)
        let units = CoreMLOptions.ComputeUnits(rawValue: settings.computeUnits.rawValue)
        return CoreMLBackend(options: CoreMLOptions(computeUnits: units ?? .all))
        #else
        throw DiffusionError.backendUnavailable(
            backend: "coreml", reason: "there is no Core ML on this system",
            remedy: "use the litert backend with a bundle that holds tflite files")
        #endif
    }

    private static func liteRT(_ settings: BackendSettings) throws -> any ModelBackend {
        try LiteRTBackend(
            library: settings.library,
            accelerator: settings.accelerator == .gpu ? .gpu() : .cpu(threads: settings.threads))
    }
}
