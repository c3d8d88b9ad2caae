import Testing

@testable import DiffusionCore

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

    static func backend() -> RecordingBackend { RecordingBackend(interfaces) }

    static func pipeline(_ backend: RecordingBackend, zeros: Bool) -> DiffusionPipeline {
        backend.pipeline { facts in
            var second = facts.tokenizer
            second.padTokenID = 0  // `!`, the first of the byte alphabet
            facts.tokenizer2 = second
            facts.zerosForEmptyPrompt = zeros
            facts.denoiser = .older(hasTwoTokenizers: true)
        }
    }
}

@Suite("A pipeline of Stable Diffusion XL")
struct XLPipelineTests {
    /// The first token of a prompt.
    private func id(_ text: String) -> Float { Float(PreviewBundle.tokenizer.encode(text)[0]) }

    private func draw(
        _ backend: RecordingBackend, negative: String = "", guidance: Float = 4, zeros: Bool = true
    ) async throws {
        let request = GenerationRequest(
            prompt: "cat", negativePrompt: negative, steps: 1, guidance: guidance, seed: 7)
        _ = try await XLBundle.pipeline(backend, zeros: zeros).image(for: request)
    }

    @Test func runsBothEncodersThenTheUNet() async throws {
        let backend = XLBundle.backend()
        try await draw(backend, negative: "dog")
        let order = await backend.runs.map(\.component)
        #expect(
            order == [.textEncoder, .textEncoder, .textEncoder2, .textEncoder2, .unet, .vaeDecoder])
    }

    @Test func joinsTheEncodersChannelsAndTakesTheSecondsPooledOutput() async throws {
        let backend = XLBundle.backend()
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
        let backend = XLBundle.backend()
        try await draw(backend, negative: "dog")
        let first = try #require(await backend.inputs("input_ids", of: .textEncoder).first)
        let second = try #require(await backend.inputs("input_ids", of: .textEncoder2).first)
        #expect(first.values.prefix(5) == second.values.prefix(5))
        #expect(first.values.last == 513 && second.values.last == 0)
    }

    @Test func anEmptyNegativePromptIsZerosWhereTheModelWasTrainedSo() async throws {
        let backend = XLBundle.backend()
        try await draw(backend)
        let context = try #require(await backend.inputs("encoder_hidden_states", of: .unet).first)
        #expect(context.values.prefix(8 * 16).allSatisfy { $0 == 0 })
        #expect(context.values.suffix(8 * 16).allSatisfy { $0 != 0 })
        let pooled = try #require(await backend.inputs("text_embeds", of: .unet).first)
        #expect(pooled.values.prefix(4).allSatisfy { $0 == 0 } && pooled.values.last != 0)
        let encoding = XLBundle.backend()
        try await draw(encoding, zeros: false)
        let encoded = try #require(await encoding.inputs("text_embeds", of: .unet).first)
        #expect(encoded.values.allSatisfy { $0 != 0 })
    }

    @Test func withoutGuidanceThereIsOneRow() async throws {
        let backend = XLBundle.backend()
        try await draw(backend, negative: "dog", guidance: 1)
        #expect(await backend.inputs("input_ids", of: .textEncoder2).count == 1)
        let context = try #require(await backend.inputs("encoder_hidden_states", of: .unet).first)
        #expect(context.values.prefix(8 * 16) == context.values.suffix(8 * 16))
        #expect(context.values[0] == id("cat"))
    }
}
