/// What to draw. A value that apps can save.
public struct GenerationRequest: Sendable, Hashable, Codable {
    public var prompt: String
    /// What to keep out of the picture.
    public var negativePrompt: String
    /// Denoising steps, up to ``Limits/steps``; nil takes the model's advice.
    public var steps: Int?
    /// 1 or less switches guidance off, the most is ``Limits/guidance``; nil takes the model's advice.
    public var guidance: Float?
    public var seed: UInt32
    /// nil takes the model's own.
    public var scheduler: SchedulerName?
    /// nil takes the first size of the bundle.
    public var size: ImageSize?
    public var randomSource: RandomSourceName
    /// A picture to start from; its size must be the picture's.
    public var startImage: StartImage?
    /// A rough preview every so many steps; 0 gives none.
    public var previewEvery: Int

    public init(
        prompt: String, negativePrompt: String = "", steps: Int? = nil, guidance: Float? = nil,
        seed: UInt32 = 0, scheduler: SchedulerName? = nil, size: ImageSize? = nil,
        randomSource: RandomSourceName = .torch, startImage: StartImage? = nil,
        previewEvery: Int = 1
    ) {
        self.prompt = prompt
        self.negativePrompt = negativePrompt
        self.steps = steps
        self.guidance = guidance
        self.seed = seed
        self.scheduler = scheduler
        self.size = size
        self.randomSource = randomSource
        self.startImage = startImage
        self.previewEvery = previewEvery
    }
}

/// Where img2img starts.
public struct StartImage: Sendable, Hashable, Codable {
    public var picture: Picture
    /// From 0 (the picture stays) to 1 (nothing of it stays).
    public var strength: Float

    public init(picture: Picture, strength: Float = 0.8) {
        self.picture = picture
        self.strength = strength
    }
}
