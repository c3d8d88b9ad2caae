/// The manifest's words: snake_case keys, and sizes as [height, width].
extension PipelineFacts: Codable {
    enum CodingKeys: String, CodingKey {
        case family
        case predictionType = "prediction_type"
        case size
        case latentSize = "latent_size"
        case latentChannels = "latent_channels"
        case vaeScaleFactor = "vae_scale_factor"
        case scalingFactor = "scaling_factor"
        case shiftFactor = "shift_factor"
        case batch
        case maxTokens = "max_tokens"
        case tokenizer, advice, denoiser, preview, scheduler, sizes
        case tokenizer2 = "tokenizer_2"
        case zerosForEmptyPrompt = "zeros_for_empty_prompt"
        case fewSteps = "few_steps"
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        family = try container.decode(String.self, forKey: .family)
        predictionType = try container.decode(String.self, forKey: .predictionType)
        size = try container.placed(HeightAndWidth.self, forKey: .size).size
        latentSize = try container.placed(HeightAndWidth.self, forKey: .latentSize).size
        latentChannels = try container.placed(Int.self, forKey: .latentChannels)
        vaeScaleFactor = try container.placed(Int.self, forKey: .vaeScaleFactor)
        scalingFactor = try container.placed(Float.self, forKey: .scalingFactor)
        shiftFactor = try container.placedIfPresent(Float.self, forKey: .shiftFactor) ?? 0
        batch = try container.placed(Int.self, forKey: .batch)
        maxTokens = try container.placed(Int.self, forKey: .maxTokens)
        tokenizer = try container.decode(TokenizerFacts.self, forKey: .tokenizer)
        advice = try container.decodeIfPresent(Advice.self, forKey: .advice) ?? Advice()
        preview = try container.placedIfPresent(PreviewFacts.self, forKey: .preview)
        scheduler = try container.decode(JSONValue.self, forKey: .scheduler)
        sizes = try container.decodeIfPresent([SizeFacts].self, forKey: .sizes) ?? []
        let isOlder = !container.contains(.denoiser)
        tokenizer2 = isOlder && family == Self.familyOfTwoEncoders
            ? try container.decode(TokenizerFacts.self, forKey: .tokenizer2)
            : try container.decodeIfPresent(TokenizerFacts.self, forKey: .tokenizer2)
        denoiser = isOlder
            ? .older(hasTwoTokenizers: tokenizer2 != nil)
            : try container.decode(DenoiserFacts.self, forKey: .denoiser)
        fewSteps = try container.decodeIfPresent([FewSteps].self, forKey: .fewSteps)
        zerosForEmptyPrompt =
            try container.decodeIfPresent(Bool.self, forKey: .zerosForEmptyPrompt) ?? false
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(family, forKey: .family)
        try container.encode(predictionType, forKey: .predictionType)
        try container.encode(HeightAndWidth(size: size), forKey: .size)
        try container.encode(HeightAndWidth(size: latentSize), forKey: .latentSize)
        try container.encode(latentChannels, forKey: .latentChannels)
        try container.encode(vaeScaleFactor, forKey: .vaeScaleFactor)
        try container.encode(scalingFactor, forKey: .scalingFactor)
        try container.encode(shiftFactor, forKey: .shiftFactor)
        try container.encode(batch, forKey: .batch)
        try container.encode(maxTokens, forKey: .maxTokens)
        try container.encode(tokenizer, forKey: .tokenizer)
        try container.encode(advice, forKey: .advice)
        try container.encodeIfPresent(preview, forKey: .preview)
        try container.encode(scheduler, forKey: .scheduler)
        if !sizes.isEmpty { try container.encode(sizes, forKey: .sizes) }
        try container.encodeIfPresent(tokenizer2, forKey: .tokenizer2)
        try container.encode(denoiser, forKey: .denoiser)
        try container.encodeIfPresent(fewSteps, forKey: .fewSteps)
        if tokenizer2 != nil || zerosForEmptyPrompt {
            try container.encode(zerosForEmptyPrompt, forKey: .zerosForEmptyPrompt)
        }
    }
}

extension KeyedDecodingContainer {
    /// Decodes, and names the key where a number does not fit: Foundation tells that without a place.
    func placed<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        do {
            return try decode(type, forKey: key)
        } catch let error where !hasPlace(error) {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: self, debugDescription: "a number that does not fit")
        }
    }

    /// The same; nil where there is nothing.
    func placedIfPresent<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value? {
        try contains(key) && !decodeNil(forKey: key) ? placed(type, forKey: key) : nil
    }
}

/// Whether an error of decoding says where.
private func hasPlace(_ error: any Error) -> Bool {
    switch error {
    case DecodingError.dataCorrupted(let context): !context.codingPath.isEmpty
    default: error is DecodingError
    }
}

extension TokenizerFacts {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        bosTokenID = try container.placed(Int.self, forKey: .bosTokenID)
        eosTokenID = try container.placed(Int.self, forKey: .eosTokenID)
        padTokenID = try container.placed(Int.self, forKey: .padTokenID)
        maxTokens = try container.placed(Int.self, forKey: .maxTokens)
        addedTokens = try container.placedIfPresent([AddedToken].self, forKey: .addedTokens)
    }
}

extension SizeFacts: Codable {
    enum CodingKeys: String, CodingKey {
        case size
        case latentSize = "latent_size"
        case function
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        size = try container.placed(HeightAndWidth.self, forKey: .size).size
        latentSize = try container.placed(HeightAndWidth.self, forKey: .latentSize).size
        function = try container.decode(String.self, forKey: .function)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(HeightAndWidth(size: size), forKey: .size)
        try container.encode(HeightAndWidth(size: latentSize), forKey: .latentSize)
        try container.encode(function, forKey: .function)
    }
}

/// `[height, width]` in JSON.
private struct HeightAndWidth: Codable {
    var size: ImageSize

    init(size: ImageSize) { self.size = size }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let numbers = try container.decode([Int].self)
        guard numbers.count == 2, numbers.allSatisfy({ $0 > 0 }) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "\(numbers) is not [height, width]")
        }
        size = ImageSize(height: numbers[0], width: numbers[1])
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode([size.height, size.width])
    }
}
