import Foundation
import Testing

@testable import DiffusionCore

/// Networks of Stable Diffusion XL's shapes that write down what they are given.
private actor XLBackend: ModelBackend {
    nonisolated let name = "xl"
    nonisolated let target = Target.coreml
    private(set) var runs: [(component: Component, inputs: [String: Tensor])] = []

    func load(_ file: ModelFile) async throws -> any Network { XLNetwork(file: file, backend: self) }

    func prewarm(_ file: ModelFile) async throws {}

    func interface(of file: URL) async throws -> NetworkInterface {
        NetworkInterface(inputs: [:], outputs: [:])
    }

    fileprivate func note(_ component: Component, _ inputs: [String: Tensor]) {
        runs.append((component, inputs))
    }

    func inputs(_ name: String, of component: Component) -> [Tensor] {
        runs.filter { $0.component == component }.compactMap { $0.inputs[name] }
    }
}

private struct XLNetwork: Network {
    let file: ModelFile
    let backend: XLBackend

    var interface: NetworkInterface { XLBundle.interfaces[file.component]! }

    /// Encoders answer with the prompt's second id, a thousand more for the second encoder, and
    /// the pooled output is the negative of that.
    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        await backend.note(file.component, inputs)
        var value: Float = 0
        if let ids = inputs["input_ids"] {
            value = ids.values[1] + (file.component == .textEncoder2 ? 1000 : 0)
        }
        return interface.outputs.reduce(into: [:]) { outputs, output in
            let sign: Float = output.key == "pooled_outputs" ? -1 : 1
            outputs[output.key] = Tensor(shape: output.value.shape, repeating: sign * value)
        }
    }

    func unload() async {}
}

private enum XLBundle {
    static let interfaces: [Component: NetworkInterface] = [
        .textEncoder: PreviewBundle.interface(
            ["input_ids": [1, 16]], ["hidden_embeds": [1, 16, 3], "pooled_outputs": [1, 3]]),
        .textEncoder2: PreviewBundle.interface(
            ["input_ids": [1, 16]], ["hidden_embeds": [1, 16, 5], "pooled_outputs": [1, 4]]),
        .unet: PreviewBundle.interface(
            [
                "sample": [2, 4, 8, 8], "timestep": [2], "encoder_hidden_states": [2, 8, 1, 16],
                "time_ids": [2, 6], "text_embeds": [2, 4],
            ], ["noise_pred": [2, 4, 8, 8]]),
        .vaeDecoder: PreviewBundle.interface(["z": [1, 4, 8, 8]], ["image": [1, 3, 64, 64]]),
    ]

    static func pipeline(_ backend: XLBackend, zeros: Bool = true) -> DiffusionPipeline {
        var manifest = PreviewBundle.bundle.manifest
        manifest.pipeline.family = "stable-diffusion-xl"
        var second = manifest.pipeline.tokenizer
        second.padTokenID = 0  // `!`, the first of the byte alphabet
        manifest.pipeline.tokenizer2 = second
        manifest.pipeline.zerosForEmptyPrompt = zeros
        manifest.components = interfaces.reduce(into: [:]) { table, entry in
            let file = NetworkFileFacts(
                path: entry.key.rawValue, target: .coreml,
                inputs: entry.value.inputs.keys.sorted(), outputs: entry.value.outputs.keys.sorted(),
                weightBytes: 1)
            table[entry.key.rawValue] = ComponentFacts(inputs: [], outputs: [], files: [file])
        }
        return DiffusionPipeline(
            bundle: ModelBundle(url: URL(fileURLWithPath: "/xl"), manifest: manifest),
            backend: backend, memoryPolicy: .stageByStage, tokenizer: PreviewBundle.tokenizer)
    }
}

@Suite("A pipeline of Stable Diffusion XL")
struct XLPipelineTests {
    /// The first token of a prompt.
    private func id(_ text: String) -> Float { Float(PreviewBundle.tokenizer.encode(text)[0]) }

    private func draw(
        _ backend: XLBackend, negative: String = "", guidance: Float = 4, zeros: Bool = true
    ) async throws {
        let request = GenerationRequest(
            prompt: "cat", negativePrompt: negative, steps: 1, guidance: guidance, seed: 7)
        _ = try await XLBundle.pipeline(backend, zeros: zeros).image(for: request)
    }

    @Test func runsBothEncodersThenTheUNet() async throws {
        let backend = XLBackend()
        try await draw(backend, negative: "dog")
        let order = await backend.runs.map(\.component)
        #expect(
            order == [.textEncoder, .textEncoder, .textEncoder2, .textEncoder2, .unet, .vaeDecoder])
    }

    @Test func joinsTheEncodersChannelsAndTakesTheSecondsPooledOutput() async throws {
        let backend = XLBackend()
        try await draw(backend, negative: "dog")
        let (dog, cat) = (id("dog"), id("cat"))
        let rows = [dog, cat].flatMap { value in
            Array(repeating: value, count: 3 * 16) + Array(repeating: value + 1000, count: 5 * 16)
        }
        let context = try #require(await backend.inputs("encoder_hidden_states", of: .unet).first)
        #expect(context.shape == [2, 8, 1, 16] && context.values == rows)
        let pooled = try #require(await backend.inputs("text_embeds", of: .unet).first)
        let states = Array(repeating: dog + 1000, count: 4) + Array(repeating: cat + 1000, count: 4)
        #expect(pooled.values == states.map { -$0 })
        let sizes = try #require(await backend.inputs("time_ids", of: .unet).first)
        #expect(sizes.values == [64, 64, 0, 0, 64, 64, 64, 64, 0, 0, 64, 64])
    }

    @Test func eachEncoderHasAPaddingOfItsOwn() async throws {
        let backend = XLBackend()
        try await draw(backend, negative: "dog")
        let first = try #require(await backend.inputs("input_ids", of: .textEncoder).first)
        let second = try #require(await backend.inputs("input_ids", of: .textEncoder2).first)
        #expect(first.values.prefix(5) == second.values.prefix(5))
        #expect(first.values.last == 513 && second.values.last == 0)
    }

    @Test func anEmptyNegativePromptIsZerosWhereTheModelWasTrainedSo() async throws {
        let backend = XLBackend()
        try await draw(backend)
        let context = try #require(await backend.inputs("encoder_hidden_states", of: .unet).first)
        #expect(context.values.prefix(8 * 16).allSatisfy { $0 == 0 })
        #expect(context.values.suffix(8 * 16).allSatisfy { $0 != 0 })
        let pooled = try #require(await backend.inputs("text_embeds", of: .unet).first)
        #expect(pooled.values.prefix(4).allSatisfy { $0 == 0 } && pooled.values.last != 0)
        let encoding = XLBackend()
        try await draw(encoding, zeros: false)
        let encoded = try #require(await encoding.inputs("text_embeds", of: .unet).first)
        #expect(encoded.values.allSatisfy { $0 != 0 })
    }

    @Test func withoutGuidanceThereIsOneRow() async throws {
        let backend = XLBackend()
        try await draw(backend, negative: "dog", guidance: 1)
        #expect(await backend.inputs("input_ids", of: .textEncoder2).count == 1)
        let context = try #require(await backend.inputs("encoder_hidden_states", of: .unet).first)
        #expect(context.values.prefix(8 * 16) == context.values.suffix(8 * 16))
        #expect(context.values[0] == id("cat"))
    }
}
