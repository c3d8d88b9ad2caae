import Foundation

/// Folders made by the converter of apple/ml-stable-diffusion, which have no manifest.
///
/// Read are `TextEncoder`, `Unet` or `UnetChunk1` to `UnetChunkN`, `VAEDecoder` and, where it is
/// there, `VAEEncoder`, compiled (`.mlmodelc`) or not (`.mlpackage`), also under the converter's
/// long names (`Stable_Diffusion_version_<model>_unet.mlpackage`), with `vocab.json` and
/// `merges.txt` beside them, in the folder itself or in its subfolder `Resources`. SDXL and SD 3
/// are refused; refiners, ControlNets and safety checkers are passed over.
///
/// Sizes are taken from the networks' own descriptions. What they do not say is taken as for
/// Stable Diffusion: 1000 timesteps, betas 0.00085 to 0.012 `scaled_linear`, `steps_offset` 1, a
/// scaling factor of 0.18215, prompts filled up with the end mark. The prediction is `epsilon`,
/// but `v_prediction` where the context is 1024 wide (SD 2.x) and the latent at least 96 in height
/// or width: SD 2.x was published for 512 pixels with the one and for 768 with the other.
public enum AppleBundle {
    /// Open a bundle of either kind: by its manifest, or else by its file names.
    ///
    /// - Parameters:
    ///   - url: the bundle's folder.
    ///   - backend: describes the networks where no manifest does; Core ML's.
    ///   - checking: for bundles with a manifest; others have nothing to compare with.
    /// - Throws: as ``ModelBundle/init(at:checking:)``;
    ///   ``DiffusionError/unsupportedBundle(reason:)`` for SDXL and SD 3 and for networks of
    ///   another form; ``DiffusionError/missingTarget(_:held:)`` for a backend that does not read
    ///   Core ML's files; what the backend throws.
    public static func open(
        _ url: URL, backend: any ModelBackend, checking: ModelBundle.FileCheck = .checksums
    ) async throws -> ModelBundle {
        let manifest = url.appendingPathComponent(ModelBundle.manifestName)
        if FileManager.default.fileExists(atPath: manifest.path) {
            return try ModelBundle(at: url, checking: checking)
        }
        let folder = try AppleFolder.find(in: url)
        guard backend.target == .coreml else {
            throw DiffusionError.missingTarget(backend.target, held: [.coreml])
        }
        var networks: [Component: [DescribedFile]] = [:]
        for (component, files) in folder.files {
            for file in files {
                let interface = try await backend.interface(of: file)
                networks[component, default: []].append(DescribedFile(url: file, interface: interface))
            }
        }
        return try AppleFacts(folder: folder.url, networks: networks).bundle()
    }

    /// Whether a folder holds such a bundle and no manifest; nothing is loaded.
    public static func isHere(_ url: URL) -> Bool {
        let manifest = url.appendingPathComponent(ModelBundle.manifestName)
        return !FileManager.default.fileExists(atPath: manifest.path)
            && (try? AppleFolder.find(in: url)) != nil
    }
}

/// A file with its own description.
struct DescribedFile {
    let url: URL
    let interface: NetworkInterface
}
