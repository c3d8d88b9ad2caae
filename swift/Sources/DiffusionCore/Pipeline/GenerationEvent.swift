/// What a pipeline says while it draws.
public enum GenerationEvent: Sendable {
    /// Networks are being loaded; from 0 to 1 of the bytes that the next stage needs.
    case loading(fraction: Double)
    /// A step is done, counted from 1; `preview` is a small, rough picture where one was asked for.
    case step(Int, of: Int, preview: Picture?)
    /// The last event.
    case finished(Picture, GenerationReport)
}

/// How a picture was made.
public struct GenerationReport: Sendable, Hashable, Codable {
    /// The request with every default filled in.
    public var request: GenerationRequest
    public var backend: String
    public var memoryPolicy: MemoryPolicy
    /// The end of the prompt that did not fit; empty if all did.
    public var cutPrompt: String
    public var seconds: StageSeconds

    public init(
        request: GenerationRequest, backend: String, memoryPolicy: MemoryPolicy,
        cutPrompt: String, seconds: StageSeconds
    ) {
        self.request = request
        self.backend = backend
        self.memoryPolicy = memoryPolicy
        self.cutPrompt = cutPrompt
        self.seconds = seconds
    }
}

/// Wall time of each stage.
public struct StageSeconds: Sendable, Hashable, Codable {
    public var load = 0.0
    public var encodePrompt = 0.0
    public var denoise = 0.0
    public var decode = 0.0

    public init() {}
}
