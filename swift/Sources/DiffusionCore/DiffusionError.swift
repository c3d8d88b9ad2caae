import Foundation

/// Everything that can go wrong, each with what to do about it.
public enum DiffusionError: Error, Sendable, Hashable {
    /// The folder holds neither a manifest nor files with the names of apple/ml-stable-diffusion.
    case notABundle(URL)
    /// The manifest cannot be read.
    case corruptedManifest(reason: String)
    /// The manifest was written by a newer converter.
    case newerManifest(version: Int, supported: Int)
    /// The bundle holds a model of a kind that is not supported.
    case unsupportedBundle(reason: String)
    /// A file is missing from the bundle.
    case missingFile(name: String)
    /// A file differs from what the manifest says.
    case corruptedFile(name: String)
    /// A file that is as it was converted, or that nothing is known of, makes no sense.
    case unusableFile(name: String, reason: String)
    /// The bundle does not hold a component that the request needs.
    case missingComponent(Component, held: [Component])
    /// The bundle holds no files for the backend.
    case missingTarget(Target, held: [Target])
    /// The bundle was not converted for this size.
    case unsupportedSize(available: [ImageSize])
    /// A knob of the request or of the model's scheduler that is not supported.
    case unsupportedScheduler(reason: String)
    /// A value of the request that makes no sense.
    case invalidRequest(reason: String)
    /// A network was given something else than it declares.
    case wrongInput(network: String, reason: String)
    /// The backend is not there, or of another version.
    case backendUnavailable(backend: String, reason: String, remedy: String)
    /// The backend could not load or run a file.
    case backendFailed(backend: String, file: String, reason: String)
    /// A network gave NaN or infinity.
    case notFinite(Component)
}

extension DiffusionError: LocalizedError, CustomStringConvertible {
    /// One line: the thing and the remedy. Names from elsewhere may hold line breaks and be long.
    public var description: String {
        let thing = (errorDescription ?? "").prefix(500).split(whereSeparator: \.isNewline).joined(separator: " ")
        return [thing, recoverySuggestion].compactMap { $0 }.joined(separator: "; ")
    }

    public var errorDescription: String? {
        switch self {
        case .notABundle(let url): "\(url.path): not a bundle"
        case .corruptedManifest(let reason): "manifest.json cannot be read (\(reason))"
        case .newerManifest(let version, let supported):
            "manifest version \(version), this package reads up to \(supported)"
        case .missingFile(let name): "\(name) is missing from the bundle"
        case .corruptedFile(let name): "\(name) has changed since the conversion"
        case .unusableFile(let name, let reason): "\(name) cannot be used: \(reason)"
        case .missingComponent(let component, let held):
            "no \(component) in this bundle (it holds \(held.map(\.rawValue).joined(separator: ", ")))"
        case .missingTarget(let target, let held):
            "no \(target.rawValue) files in this bundle (it holds \(held.map(\.rawValue).joined(separator: ", ")))"
        case .unsupportedSize(let available):
            "the bundle was not converted for this size"
                + (available.isEmpty ? "" : " (it has \(available.map(\.description).joined(separator: ", ")))")
        case .unsupportedBundle(let reason), .unsupportedScheduler(let reason),
            .invalidRequest(let reason):
            reason
        case .wrongInput(let network, let reason): "\(network): \(reason)"
        case .backendUnavailable(let backend, let reason, _): "\(backend): \(reason)"
        case .backendFailed(let backend, let file, let reason): "\(backend) failed on \(file): \(reason)"
        case .notFinite(let component): "\(component) gave NaN or infinity"
        }
    }

    public var recoverySuggestion: String? {
        switch self {
        case .notABundle: "make one with `coreml-sd convert`, or give the folder that holds manifest.json"
        case .corruptedManifest, .missingFile, .corruptedFile: "download the bundle again or convert again"
        case .unusableFile: "convert again"
        case .newerManifest: "update this package"
        case .missingComponent(let component, _): "convert again with --components \(component)"
        case .missingTarget(let target, _): "convert again with --target \(target.rawValue)"
        case .unsupportedSize(let available):
            available.isEmpty ? "convert again with --size" : "choose one of these, or convert again with --size"
        case .unsupportedBundle, .unsupportedScheduler, .invalidRequest, .wrongInput: nil
        case .backendUnavailable(_, _, let remedy): remedy
        case .backendFailed: "load the bundle again; if it stays so, run `coreml-sd parity` on it"
        case .notFinite: "run `coreml-sd parity` on the bundle"
        }
    }
}
