import Foundation

/// What executes the files of a bundle: Core ML, LiteRT, or a stand-in for previews and tests.
public protocol ModelBackend: Sendable {
    /// Its name in reports and on the command line: `coreml`, `litert`, `preview`.
    var name: String { get }

    /// The kind of file that it reads.
    var target: Target { get }

    /// Load one file, so that it can run.
    ///
    /// - Throws: ``DiffusionError`` where the file cannot be loaded; `CancellationError`.
    func load(_ file: ModelFile) async throws -> any Network

    /// Do the work that is needed once for a file (compiling it for this device), so that later
    /// loads are quick. Nothing stays in memory.
    func prewarm(_ file: ModelFile) async throws

    /// What a file takes and gives, from its own description.
    func interface(of file: URL) async throws -> NetworkInterface
}

/// One loaded file.
public protocol Network: Sendable {
    /// Declared inputs and outputs.
    var interface: NetworkInterface { get }

    /// Compute all outputs.
    ///
    /// - Throws: ``DiffusionError/wrongInput(network:reason:)`` where an input is missing or has
    ///   another shape; ``DiffusionError/backendFailed(backend:file:reason:)``.
    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor]

    /// Give the memory back; the network is not used again.
    func unload() async
}

/// Inputs and outputs of a network by name.
public struct NetworkInterface: Sendable, Hashable, Codable {
    public var inputs: [String: TensorInfo]
    public var outputs: [String: TensorInfo]

    public init(inputs: [String: TensorInfo], outputs: [String: TensorInfo]) {
        self.inputs = inputs
        self.outputs = outputs
    }
}

/// One declared input or output.
public struct TensorInfo: Sendable, Hashable, Codable {
    public var shape: [Int]
    public var dtype: DType

    public init(shape: [Int], dtype: DType) {
        self.shape = shape
        self.dtype = dtype
    }
}

/// Element types that files declare.
public enum DType: String, Sendable, Hashable, Codable {
    case float16, float32, int32
}

/// What a bundle holds files for.
public enum Target: String, Sendable, Hashable, Codable, CaseIterable {
    case coreml, tflite
}

/// One network of a pipeline, named as in the manifest.
public struct Component: RawRepresentable, Sendable, Hashable, Codable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }

    public static let textEncoder = Component(rawValue: "text_encoder")
    /// Stable Diffusion XL's second.
    public static let textEncoder2 = Component(rawValue: "text_encoder_2")
    public static let unet = Component(rawValue: "unet")
    public static let vaeDecoder = Component(rawValue: "vae_decoder")
    public static let vaeEncoder = Component(rawValue: "vae_encoder")

    public var description: String { rawValue }
}

/// One file of a component, ready for a backend.
public struct ModelFile: Sendable, Hashable {
    /// The `.mlpackage`, `.mlmodelc` or `.tflite`.
    public var url: URL
    public var component: Component
    /// Hash of the content, in hex: the same for the same weights and graph. Empty where no
    /// manifest says it.
    public var contentHash: String
    /// Bytes of weights in the file.
    public var weightBytes: Int
    /// Names in the order of the file.
    public var inputs: [String]
    public var outputs: [String]
    /// The function to run, of a file that holds one for each size.
    public var function: String?

    public init(
        url: URL, component: Component, contentHash: String, weightBytes: Int,
        inputs: [String], outputs: [String], function: String? = nil
    ) {
        self.url = url
        self.component = component
        self.contentHash = contentHash
        self.weightBytes = weightBytes
        self.inputs = inputs
        self.outputs = outputs
        self.function = function
    }
}
