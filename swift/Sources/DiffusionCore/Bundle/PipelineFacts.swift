/// What generation has to know of a model: `pipeline` in the manifest.
public struct PipelineFacts: Sendable, Hashable {
    /// Families of the manifests that do not tell their denoiser; with ``denoiser`` told, any is drawn with.
    public static let families = ["stable-diffusion", "stable-diffusion-xl", "mobile-diffusion"]
    /// The one of ``families`` that has two text encoders.
    static let familyOfTwoEncoders = "stable-diffusion-xl"

    public var family: String
    /// What the UNet predicts: `epsilon`, `v_prediction` or `sample`.
    public var predictionType: String
    /// The size of the files, or the first of ``sizes``.
    public var size: ImageSize
    /// Height and width of the latent at ``size``.
    public var latentSize: ImageSize
    public var latentChannels: Int
    /// Pixels of the picture for each pixel of the latent, in each direction.
    public var vaeScaleFactor: Int
    /// What the VAE's latent is multiplied with, after ``shiftFactor`` is taken off.
    public var scalingFactor: Float
    public var shiftFactor: Float
    /// Rows of the UNet's inputs: 2 runs both halves of guidance at once.
    public var batch: Int
    /// Tokens of a prompt, the marks of start and end among them.
    public var maxTokens: Int
    public var tokenizer: TokenizerFacts
    public var advice: Advice
    /// How a latent becomes a rough picture; nil where nothing is known.
    public var preview: PreviewFacts?
    /// The model's scheduler config, in the words of diffusers.
    public var scheduler: JSONValue
    /// All sizes, where one file holds several; empty where there is only ``size``.
    public var sizes: [SizeFacts]
    /// What the denoiser takes, and how it is guided; where a manifest does not say it, what older
    /// ones meant.
    public var denoiser: DenoiserFacts
    /// Denoisers for few steps, the fewest first; nil where there is only ``denoiser``.
    public var fewSteps: [FewSteps]?
    /// Of the second text encoder, as Stable Diffusion XL has one; its vocabulary is the first's.
    public var tokenizer2: TokenizerFacts?
    /// Whether an empty negative prompt is zeros in place of every encoding (Stable Diffusion XL).
    public var zerosForEmptyPrompt: Bool

    /// - Parameter denoiser: nil takes Stable Diffusion's or, with a second tokenizer, Stable Diffusion XL's.
    public init(
        family: String, predictionType: String, size: ImageSize, latentSize: ImageSize,
        latentChannels: Int = 4, vaeScaleFactor: Int = 8, scalingFactor: Float,
        shiftFactor: Float = 0, batch: Int, maxTokens: Int = 77, tokenizer: TokenizerFacts,
        advice: Advice = Advice(), preview: PreviewFacts? = nil, scheduler: JSONValue,
        sizes: [SizeFacts] = [], tokenizer2: TokenizerFacts? = nil,
        zerosForEmptyPrompt: Bool = false, denoiser: DenoiserFacts? = nil, fewSteps: [FewSteps]? = nil
    ) {
        self.family = family
        self.predictionType = predictionType
        self.size = size
        self.latentSize = latentSize
        self.latentChannels = latentChannels
        self.vaeScaleFactor = vaeScaleFactor
        self.scalingFactor = scalingFactor
        self.shiftFactor = shiftFactor
        self.batch = batch
        self.maxTokens = maxTokens
        self.tokenizer = tokenizer
        self.advice = advice
        self.preview = preview
        self.scheduler = scheduler
        self.sizes = sizes
        self.tokenizer2 = tokenizer2
        self.zerosForEmptyPrompt = zerosForEmptyPrompt
        self.denoiser = denoiser ?? .older(hasTwoTokenizers: tokenizer2 != nil)
        self.fewSteps = fewSteps
    }

    /// The denoiser that draws with so many steps: of those for few steps the one for the fewest that
    /// are enough, else ``denoiser``.
    public func denoiser(for steps: Int) -> DenoiserFacts {
        fewSteps?.first { steps <= $0.steps }?.denoiser ?? denoiser
    }

    /// Rows that a denoiser takes at once: one for few steps takes no more than a picture has.
    func batch(of denoiser: DenoiserFacts) -> Int {
        denoiser == self.denoiser ? batch : min(batch, denoiser.rows)
    }
}

/// Special tokens of the prompt's tokenizer.
public struct TokenizerFacts: Sendable, Hashable, Codable {
    public var bosTokenID: Int
    public var eosTokenID: Int
    public var padTokenID: Int
    public var maxTokens: Int
    /// Words that are found whole wherever they are written; where nil, both marks and the padding.
    public var addedTokens: [AddedToken]?

    enum CodingKeys: String, CodingKey {
        case bosTokenID = "bos_token_id"
        case eosTokenID = "eos_token_id"
        case padTokenID = "pad_token_id"
        case maxTokens = "max_tokens"
        case addedTokens = "added_tokens"
    }

    public init(
        bosTokenID: Int, eosTokenID: Int, padTokenID: Int, maxTokens: Int = 77,
        addedTokens: [AddedToken]? = nil
    ) {
        self.bosTokenID = bosTokenID
        self.eosTokenID = eosTokenID
        self.padTokenID = padTokenID
        self.maxTokens = maxTokens
        self.addedTokens = addedTokens
    }
}

/// A word that a tokenizer finds whole, with the words of the tokenizers library.
public struct AddedToken: Sendable, Hashable, Codable {
    public var content: String
    public var id: Int
    /// Whether white space before it, and after it, is part of it.
    public var lstrip: Bool
    public var rstrip: Bool
    /// Whether it is left alone inside a longer word.
    public var singleWord: Bool
    /// Whether it is looked for in normalized text (lower case), not in the text as it is written.
    public var normalized: Bool
    /// Whether it is no word of a language.
    public var special: Bool

    enum CodingKeys: String, CodingKey {
        case content, id, lstrip, rstrip
        case singleWord = "single_word"
        case normalized, special
    }

    public init(
        content: String, id: Int, lstrip: Bool = false, rstrip: Bool = false, singleWord: Bool = false,
        normalized: Bool = false, special: Bool = false
    ) {
        self.content = content
        self.id = id
        self.lstrip = lstrip
        self.rstrip = rstrip
        self.singleWord = singleWord
        self.normalized = normalized
        self.special = special
    }
}

/// What a model's makers advise; nil and empty where they say nothing.
public struct Advice: Sendable, Hashable, Codable {
    public var guidance: Float?
    public var steps: Int?
    /// The model's own, or the nearest.
    public var scheduler: SchedulerName?
    public var prompts: [String]

    public init(
        guidance: Float? = nil, steps: Int? = nil, scheduler: SchedulerName? = nil, prompts: [String] = []
    ) {
        self.guidance = guidance
        self.steps = steps
        self.scheduler = scheduler
        self.prompts = prompts
    }

    enum CodingKeys: String, CodingKey { case guidance, steps, scheduler, prompts }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        guidance = try container.placedIfPresent(Float.self, forKey: .guidance)
        steps = try container.placedIfPresent(Int.self, forKey: .steps)
        scheduler = try container.decodeIfPresent(SchedulerName.self, forKey: .scheduler)
        prompts = try container.decodeIfPresent([String].self, forKey: .prompts) ?? []
    }
}

/// A linear map from a latent to a rough picture, -1 to 1.
public struct PreviewFacts: Sendable, Hashable, Codable {
    /// One row of red, green and blue for each channel of the latent.
    public var weights: [[Float]]
    /// Red, green and blue.
    public var bias: [Float]

    public init(weights: [[Float]], bias: [Float]) {
        self.weights = weights
        self.bias = bias
    }
}

/// One of several sizes that a bundle was converted for.
public struct SizeFacts: Sendable, Hashable {
    public var size: ImageSize
    public var latentSize: ImageSize
    /// The function of each file that computes this size.
    public var function: String

    public init(size: ImageSize, latentSize: ImageSize, function: String) {
        self.size = size
        self.latentSize = latentSize
        self.function = function
    }
}
