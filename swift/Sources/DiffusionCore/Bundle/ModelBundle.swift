import Foundation

/// A folder of converted networks, opened: what it holds, and where.
///
/// A value; nothing stays open. Files are checked when a bundle is opened, see ``FileCheck``.
public struct ModelBundle: Sendable, Hashable {
    /// How closely files are compared with the manifest when a bundle is opened.
    public enum FileCheck: Sendable, Hashable, CaseIterable {
        /// Size and SHA-256 of every file; reads the whole bundle once.
        case checksums
        /// That every file is there and of the right size.
        case sizes
        /// Only that the manifest makes sense.
        case nothing
    }

    public static let manifestName = "manifest.json"

    /// The bundle's folder.
    public let url: URL
    /// What manifest.json says, or what was concluded where there is none (``AppleBundle``).
    public let manifest: Manifest

    /// Open a bundle.
    ///
    /// - Parameters:
    ///   - url: the folder that holds manifest.json.
    ///   - checking: ``FileCheck/checksums`` takes seconds for a large bundle; an app checks once,
    ///     after the download (``verify(progress:)``), and opens with ``FileCheck/sizes`` later.
    /// - Throws: ``DiffusionError/notABundle(_:)``, ``DiffusionError/corruptedManifest(reason:)``,
    ///   ``DiffusionError/newerManifest(version:supported:)``,
    ///   ``DiffusionError/unsupportedBundle(reason:)`` for a family that does not say what its denoiser takes,
    ///   ``DiffusionError/missingFile(name:)``, ``DiffusionError/corruptedFile(name:)``,
    ///   ``DiffusionError/unusableFile(name:reason:)`` for what is no regular file or not listed;
    ///   `CancellationError` where the task was cancelled during the checks.
    public init(at url: URL, checking: FileCheck = .checksums) throws {
        let manifest = try ManifestReader(folder: url).read()
        self.init(url: url, manifest: manifest)
        try FileChecker(folder: url, manifest: manifest).check(checking)
    }

    /// A bundle as its parts say, unchecked.
    init(url: URL, manifest: Manifest) {
        self.url = url
        self.manifest = manifest
    }

    /// Facts that generation needs.
    public var pipeline: PipelineFacts { manifest.pipeline }

    /// Networks that it holds, in the order in which a picture needs them.
    public var components: [Component] {
        manifest.components.keys.map(Component.init(rawValue:)).sorted { $0.runsBefore($1) }
    }

    /// What it holds files for.
    public var targets: [Target] {
        let held = Set(manifest.components.values.flatMap(\.files).map(\.target))
        return Target.allCases.filter { held.contains($0.rawValue) }
    }

    /// The CLIP vocabulary: token to id.
    public var vocabularyURL: URL { url.appendingPathComponent("vocab.json") }

    /// The CLIP merges, the most frequent pair first.
    public var mergesURL: URL { url.appendingPathComponent("merges.txt") }

    /// Inputs and outputs that the manifest declares for a component, at the first size.
    ///
    /// - Throws: ``DiffusionError/missingComponent(_:held:)``.
    public func interface(of component: Component) throws -> NetworkInterface {
        try facts(of: component).interface
    }

    /// The files of a component in running order: one, or the chunks of it.
    ///
    /// - Parameters:
    ///   - target: what the backend reads.
    ///   - size: of the picture; nil takes the first of ``sizes``.
    /// - Throws: ``DiffusionError/missingComponent(_:held:)``,
    ///   ``DiffusionError/missingTarget(_:held:)``,
    ///   ``DiffusionError/unsupportedSize(available:)``.
    public func files(
        of component: Component, for target: Target, size: ImageSize? = nil
    ) throws -> [ModelFile] {
        let function = try self.size(size).function
        let entries = try facts(of: component).files
        let chosen = entries.filter { $0.target == target.rawValue }
        guard !chosen.isEmpty else {
            let held = Set(entries.map(\.target))
            throw DiffusionError.missingTarget(
                target, held: Target.allCases.filter { held.contains($0.rawValue) })
        }
        return chosen.map { entry in
            let content = BundleContent(of: entry.path, in: manifest.files)
            return ModelFile(
                url: url.appendingPathComponent(entry.path), component: component,
                contentHash: content.hash, weightBytes: entry.weightBytes ?? content.bytes,
                inputs: entry.inputs, outputs: entry.outputs, function: function)
        }
    }

    func facts(of component: Component) throws -> ComponentFacts {
        guard let facts = manifest.components[component.rawValue] else {
            throw DiffusionError.missingComponent(component, held: components)
        }
        return facts
    }
}

/// Sizes of pictures.
extension ModelBundle {
    /// Sizes that the bundle was converted for; the first is the default.
    public var sizes: [ImageSize] { sizeFacts.map(\.size) }

    /// Height and width of the latent for a size of the picture; nil takes the first of ``sizes``.
    ///
    /// - Throws: ``DiffusionError/unsupportedSize(available:)``.
    public func latentSize(for size: ImageSize? = nil) throws -> ImageSize {
        try self.size(size).latentSize
    }

    private typealias SizeChoice = (size: ImageSize, latentSize: ImageSize, function: String?)

    private var sizeFacts: [SizeChoice] {
        pipeline.sizes.isEmpty
            ? [(pipeline.size, pipeline.latentSize, nil)]
            : pipeline.sizes.map { ($0.size, $0.latentSize, $0.function) }
    }

    private func size(_ wanted: ImageSize?) throws -> SizeChoice {
        let choices = sizeFacts
        guard let choice = choices.first(where: { wanted == nil || $0.size == wanted }) else {
            throw DiffusionError.unsupportedSize(available: choices.map(\.size))
        }
        return choice
    }
}

extension Component {
    /// In the order of a picture: text, then denoising, then decoding; others last, by name.
    fileprivate func runsBefore(_ other: Component) -> Bool {
        let order: [Component] = [
            .textEncoder, .textEncoder2, .unet, Component(rawValue: "transformer"), .vaeDecoder,
            .vaeEncoder,
        ]
        func rank(_ component: Component) -> Int {
            order.firstIndex(of: component) ?? order.count
        }
        return (rank(self), rawValue) < (rank(other), other.rawValue)
    }
}
