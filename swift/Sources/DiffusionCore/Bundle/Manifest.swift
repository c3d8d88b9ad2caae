import Foundation

/// manifest.json of a bundle, as far as generation reads it (`docs/manifest.md` has every key).
public struct Manifest: Sendable, Hashable, Codable {
    /// What `format` says in a manifest of ours.
    public static let format = "coreml-sd bundle"
    /// The newest `manifest_version` that this package reads.
    public static let supportedVersion = 1

    public var format: String
    public var version: Int
    /// nil in bundles that were made by hand.
    public var model: ModelFacts?
    public var pipeline: PipelineFacts
    /// By name: `text_encoder`, `text_encoder_2`, `unet`, `vae_decoder`, `vae_encoder`.
    public var components: [String: ComponentFacts]
    /// Size and hash of each file by its path in the bundle.
    public var files: [String: FileFacts]
    /// What the conversion did otherwise than asked, a sentence each; nil in bundles made by hand.
    public var notes: [String]?

    enum CodingKeys: String, CodingKey {
        case format
        case version = "manifest_version"
        case model, pipeline, components, files, notes
    }

    public init(
        model: ModelFacts? = nil, pipeline: PipelineFacts, components: [String: ComponentFacts],
        files: [String: FileFacts], notes: [String]? = nil
    ) {
        self.model = model
        format = Self.format
        version = Self.supportedVersion
        self.pipeline = pipeline
        self.components = components
        self.files = files
        self.notes = notes
    }

    /// Which scheduler is taken for the model's own, where it is not here; nil where it is.
    public var schedulerNote: String? { notes?.first { $0.hasPrefix("scheduler: ") } }
}

/// Which model a bundle was converted from, and how.
public struct ModelFacts: Sendable, Hashable, Codable {
    public var name: String
    /// Says whether two bundles were converted with the same config.
    public var configDigest: String?

    enum CodingKeys: String, CodingKey {
        case name
        case configDigest = "config_digest"
    }

    public init(name: String, configDigest: String? = nil) {
        self.name = name
        self.configDigest = configDigest
    }
}

/// What the manifest says of one network.
public struct ComponentFacts: Sendable, Hashable, Codable {
    public var inputs: [TensorFacts]
    public var outputs: [TensorFacts]
    /// In running order within a target.
    public var files: [NetworkFileFacts]

    public init(inputs: [TensorFacts], outputs: [TensorFacts], files: [NetworkFileFacts]) {
        self.inputs = inputs
        self.outputs = outputs
        self.files = files
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        inputs = try container.placedIfPresent([TensorFacts].self, forKey: .inputs) ?? []
        outputs = try container.placedIfPresent([TensorFacts].self, forKey: .outputs) ?? []
        files = try container.placed([NetworkFileFacts].self, forKey: .files)
    }

    /// Inputs and outputs by name.
    public var interface: NetworkInterface {
        func table(_ tensors: [TensorFacts]) -> [String: TensorInfo] {
            tensors.reduce(into: [:]) {
                $0[$1.name] = TensorInfo(shape: $1.shape, dtype: $1.dtype)
            }
        }
        return NetworkInterface(inputs: table(inputs), outputs: table(outputs))
    }
}

/// One declared input or output of a component.
public struct TensorFacts: Sendable, Hashable, Codable {
    public var name: String
    public var shape: [Int]
    public var dtype: DType

    public init(name: String, shape: [Int], dtype: DType) {
        self.name = name
        self.shape = shape
        self.dtype = dtype
    }
}

/// One file of a component: a whole network, or a chunk of it.
public struct NetworkFileFacts: Sendable, Hashable, Codable {
    /// Relative to the bundle; a folder for an `.mlpackage`.
    public var path: String
    /// `coreml` or `tflite`; a target that this package does not know is passed over.
    public var target: String
    public var inputs: [String]
    public var outputs: [String]
    /// Bytes of weights; nil where the manifest does not say it.
    public var weightBytes: Int?

    enum CodingKeys: String, CodingKey {
        case path, target, inputs, outputs
        case weightBytes = "weight_bytes"
    }

    public init(
        path: String, target: Target, inputs: [String], outputs: [String], weightBytes: Int? = nil
    ) {
        self.path = path
        self.target = target.rawValue
        self.inputs = inputs
        self.outputs = outputs
        self.weightBytes = weightBytes
    }
}

/// Size and hash of a file.
public struct FileFacts: Sendable, Hashable, Codable {
    /// 64 hex digits.
    public var sha256: String
    public var bytes: Int

    public init(sha256: String, bytes: Int) {
        self.sha256 = sha256
        self.bytes = bytes
    }
}
