/// What a denoiser takes beside the latent and the timestep, and how it is guided: `pipeline.denoiser`
/// in the manifest. Whoever draws needs to know no family.
public struct DenoiserFacts: Sendable, Hashable, Codable {
    /// How the guidance of a request reaches the prediction.
    public enum Guidance: String, Sendable, Hashable, Codable, CaseIterable {
        /// A row for the negative prompt and one for the prompt; what both give is combined.
        case classifierFree = "classifier-free"
        /// One row, the prompt's; the denoiser is told the guidance.
        case embedded
        /// One row, the prompt's; the denoiser was trained for one guidance.
        case unguided = "none"
    }

    /// One output of one text encoder.
    public struct TextOutput: Sendable, Hashable, Codable {
        /// One of ``DenoiserFacts/textEncoders``.
        public var component: Component
        public var output: String

        public init(component: Component, output: String) {
            self.component = component
            self.output = output
        }
    }

    /// Where an input comes from, the same for all steps of a picture.
    public enum Condition: Sendable, Hashable {
        /// Outputs of text encoders, joined along their channels in this order.
        case text([TextOutput])
        /// Of a whole picture: height and width before cropping, top and left of the crop, height and
        /// width.
        case size
        /// The guidance as so many sines and cosines; see ``DiffusionCore/Guidance/embedding(_:width:)``.
        case guidance(width: Int)
    }

    /// Text encoders in the order of their use.
    public static let textEncoders: [Component] = [.textEncoder, .textEncoder2]

    /// The network that denoises.
    public var component: Component
    public var guidance: Guidance
    /// Further inputs by name.
    public var conditions: [String: Condition]

    public init(
        component: Component = .unet, guidance: Guidance = .classifierFree, conditions: [String: Condition]
    ) {
        self.component = component
        self.guidance = guidance
        self.conditions = conditions
    }

    /// Of its inputs, for one picture.
    var rows: Int { guidance == .classifierFree ? 2 : 1 }

    /// Outputs that the conditions ask for, each once.
    var textOutputs: Set<TextOutput> {
        Set(conditions.values.flatMap { condition -> [TextOutput] in
            guard case .text(let outputs) = condition else { return [] }
            return outputs
        })
    }
}

/// A denoiser that was distilled to draw in few steps: one of `pipeline.few_steps` in the manifest.
public struct FewSteps: Sendable, Hashable {
    /// The most that it draws with.
    public var steps: Int
    public var denoiser: DenoiserFacts

    public init(steps: Int, denoiser: DenoiserFacts) {
        self.steps = steps
        self.denoiser = denoiser
    }
}

extension FewSteps: Codable {
    enum CodingKeys: String, CodingKey { case steps, denoiser }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        steps = try container.placed(Int.self, forKey: .steps)
        denoiser = try container.decode(DenoiserFacts.self, forKey: .denoiser)
    }
}

/// Where nothing is told.
extension DenoiserFacts {
    /// That of Stable Diffusion, or of Stable Diffusion XL, which has two tokenizers.
    static func older(hasTwoTokenizers: Bool) -> DenoiserFacts {
        func text(_ output: String, _ encoders: Component...) -> Condition {
            .text(encoders.map { TextOutput(component: $0, output: output) })
        }
        guard hasTwoTokenizers else {
            return DenoiserFacts(conditions: ["encoder_hidden_states": text("last_hidden_state", .textEncoder)])
        }
        return DenoiserFacts(conditions: [
            "encoder_hidden_states": text("hidden_embeds", .textEncoder, .textEncoder2),
            "time_ids": .size,
            "text_embeds": text("pooled_outputs", .textEncoder2),
        ])
    }
}

/// The manifest's words: a table with `kind` and what belongs to it.
extension DenoiserFacts.Condition: Codable {
    private enum Kind: String, Codable { case text, size, guidance }

    private enum CodingKeys: String, CodingKey { case kind, outputs, width }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        switch try container.decode(Kind.self, forKey: .kind) {
        case .text: self = .text(try container.decode([DenoiserFacts.TextOutput].self, forKey: .outputs))
        case .size: self = .size
        case .guidance: self = .guidance(width: try container.placed(Int.self, forKey: .width))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .text(let outputs):
            try container.encode(Kind.text, forKey: .kind)
            try container.encode(outputs, forKey: .outputs)
        case .size: try container.encode(Kind.size, forKey: .kind)
        case .guidance(let width):
            try container.encode(Kind.guidance, forKey: .kind)
            try container.encode(width, forKey: .width)
        }
    }
}
