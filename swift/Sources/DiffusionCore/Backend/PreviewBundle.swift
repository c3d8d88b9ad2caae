import Foundation

/// A bundle without files, at the shapes of a very small model, for ``PreviewBackend``.
enum PreviewBundle {
    private static let latentSide = 8
    private static let side = 64
    private static let width = 8
    private static let tokens = 16

    static let interfaces: [Component: NetworkInterface] = [
        .textEncoder: interface(
            ["input_ids": [1, tokens]], ["last_hidden_state": [1, tokens, width]]),
        .unet: interface(
            [
                "sample": [2, 4, latentSide, latentSide], "timestep": [2],
                "encoder_hidden_states": [2, width, 1, tokens],
            ], ["noise_pred": [2, 4, latentSide, latentSide]]),
        .vaeDecoder: interface(
            ["z": [1, 4, latentSide, latentSide]], ["image": [1, 3, side, side]]),
        .vaeEncoder: interface(
            ["x": [1, 3, side, side]], ["latent": [1, 8, latentSide, latentSide]]),
    ]

    static var bundle: ModelBundle {
        let facts = PipelineFacts(
            family: "preview", predictionType: "epsilon", size: ImageSize(height: side, width: side),
            latentSize: ImageSize(height: latentSide, width: latentSide), latentChannels: 4,
            vaeScaleFactor: side / latentSide, scalingFactor: 1, shiftFactor: 0, batch: 2,
            maxTokens: tokens,
            tokenizer: TokenizerFacts(bosTokenID: 512, eosTokenID: 513, padTokenID: 513, maxTokens: tokens),
            advice: Advice(guidance: 7.5, steps: 20), preview: nil, scheduler: .object([:]), sizes: [])
        let components = interfaces.map { component, interface in
            (component.rawValue, componentFacts(of: component, interface))
        }
        let manifest = Manifest(
            pipeline: facts, components: Dictionary(uniqueKeysWithValues: components), files: [:])
        return ModelBundle(url: URL(fileURLWithPath: "/preview"), manifest: manifest)
    }

    /// One token for each byte.
    static let tokenizer: CLIPTokenizer = {
        let symbols = ByteAlphabet.characters.map { Array(String($0).utf8) }
        let words = symbols + symbols.map { $0 + Vocabulary.wordEnd }
            + ["<|startoftext|>", "<|endoftext|>"].map { Array($0.utf8) }
        var text: [UInt8] = []
        let entries = words.enumerated().map { id, word in
            text += word
            return (span: text.count - word.count..<text.count, id: id)
        }
        guard let tokens = TokenTable(text: text, entries: entries),
            let vocabulary = Vocabulary(tokens: tokens, pairs: [])
        else { preconditionFailure("it holds both special tokens, and none twice") }
        return CLIPTokenizer(vocabulary: vocabulary, facts: bundle.pipeline.tokenizer)
    }()

    private static func componentFacts(of component: Component, _ interface: NetworkInterface) -> ComponentFacts {
        func tensors(_ table: [String: TensorInfo]) -> [TensorFacts] {
            table.map { TensorFacts(name: $0.key, shape: $0.value.shape, dtype: $0.value.dtype) }
        }
        let file = NetworkFileFacts(
            path: component.rawValue, target: .coreml, inputs: Array(interface.inputs.keys),
            outputs: Array(interface.outputs.keys), weightBytes: 1)
        return ComponentFacts(
            inputs: tensors(interface.inputs), outputs: tensors(interface.outputs), files: [file])
    }

    /// Of fp32 tensors with these shapes.
    static func interface(
        _ inputs: [String: [Int]], _ outputs: [String: [Int]]
    ) -> NetworkInterface {
        func infos(_ shapes: [String: [Int]]) -> [String: TensorInfo] {
            shapes.mapValues { TensorInfo(shape: $0, dtype: .float32) }
        }
        return NetworkInterface(inputs: infos(inputs), outputs: infos(outputs))
    }
}
