import Foundation
import Testing

@testable import DiffusionCore

/// As a latent consistency model: told its guidance, one row for each picture.
@Suite("A denoiser that is told its guidance")
struct EmbeddedGuidanceTests {
    let backend = RecordingBackend([
        .textEncoder: PreviewBundle.interface(
            ["input_ids": [1, 16]], ["last_hidden_state": [1, 16, 5], "pooled_outputs": [1, 3]]),
        Self.denoiser: PreviewBundle.interface(
            [
                "sample": [1, 4, 8, 8], "timestep": [1], "encoder_hidden_states": [1, 5, 1, 16],
                "timestep_cond": [1, 8], "sizes": [1, 6], "pooled": [1, 3],
            ], ["noise_pred": [1, 4, 8, 8]]),
        .unet: Self.unet(rows: 2),
        Component(rawValue: "unet_1"): Self.unet(rows: 1),
        Component(rawValue: "unet_4"): Self.unet(rows: 1),
        .vaeDecoder: PreviewBundle.interface(["z": [1, 4, 8, 8]], ["image": [1, 3, 64, 64]]),
    ])

    private static func unet(rows: Int) -> NetworkInterface {
        PreviewBundle.interface(
            ["sample": [rows, 4, 8, 8], "timestep": [rows], "encoder_hidden_states": [rows, 5, 1, 16]],
            ["noise_pred": [rows, 4, 8, 8]])
    }

    private static let denoiser = Component(rawValue: "transformer")

    private func text(_ output: String) -> DenoiserFacts.Condition {
        .text([DenoiserFacts.TextOutput(component: .textEncoder, output: output)])
    }

    private func draw(
        guidance: Float = 8.5, embedded: Bool = true, _ more: [String: DenoiserFacts.Condition] = [:]
    ) async throws {
        let conditions: [String: DenoiserFacts.Condition] = [
            "encoder_hidden_states": text("last_hidden_state"), "pooled": text("pooled_outputs"),
            "timestep_cond": .guidance(width: 8), "sizes": .size,
        ]
        let pipeline = backend.pipeline { facts in
            facts.family = "a family that nobody knows"
            facts.batch = 1
            facts.denoiser = DenoiserFacts(
                component: Self.denoiser, guidance: embedded ? .embedded : .classifierFree,
                conditions: conditions.merging(more) { $1 })
        }
        let request = GenerationRequest(
            prompt: "cat", negativePrompt: "dog", steps: 1, guidance: guidance, seed: 7)
        _ = try await pipeline.image(for: request)
    }

    @Test func runsOnceForThePromptAlone() async throws {
        try await draw()
        let order = await backend.runs.map(\.component)
        #expect(order == [.textEncoder, Self.denoiser, .vaeDecoder])
        let cat = Float(PreviewBundle.tokenizer.encode("cat")[0])
        let context = try #require(await backend.inputs("encoder_hidden_states", of: Self.denoiser).first)
        #expect(context == Tensor(shape: [1, 5, 1, 16], repeating: cat))
        let pooled = try #require(await backend.inputs("pooled", of: Self.denoiser).first)
        #expect(pooled == Tensor(shape: [1, 3], repeating: -cat))
    }

    @Test func otherwiseTheNegativePromptIsRunToo() async throws {
        try await draw(embedded: false)
        let order = await backend.runs.map(\.component)
        let twice = [Component.textEncoder, .textEncoder, Self.denoiser, Self.denoiser, .vaeDecoder]
        #expect(order == twice)
    }

    @Test(arguments: [(1, "unet_1"), (2, "unet_4"), (4, "unet_4"), (5, "unet")])
    func theStepsSayWhichDenoiserDraws(steps: Int, expected: String) async throws {
        let conditions = ["encoder_hidden_states": text("last_hidden_state")]
        let pipeline = backend.pipeline { facts in
            facts.batch = 2
            facts.denoiser = DenoiserFacts(conditions: conditions)
            facts.fewSteps = [(1, DenoiserFacts.Guidance.unguided), (4, .embedded)].map { steps, guidance in
                let component = Component(rawValue: "unet_\(steps)")
                return FewSteps(
                    steps: steps,
                    denoiser: DenoiserFacts(component: component, guidance: guidance, conditions: conditions))
            }
        }
        let request = GenerationRequest(prompt: "cat", negativePrompt: "dog", steps: steps, guidance: 4, seed: 7)
        _ = try await pipeline.image(for: request)
        let drawn = await backend.runs.map(\.component.rawValue).filter { $0.hasPrefix("unet") }
        #expect(Set(drawn) == [expected])
        let sample = await backend.inputs("sample", of: Component(rawValue: expected)).first
        #expect(sample?.shape[0] == (expected == "unet" ? 2 : 1))
    }

    @Test(arguments: [1, 1.5, 8.5] as [Float])
    func isToldTheRequestsGuidanceAndSize(guidance: Float) async throws {
        try await draw(guidance: guidance)
        let told = try #require(await backend.inputs("timestep_cond", of: Self.denoiser).first)
        #expect(told == Tensor(shape: [1, 8], values: Guidance.embedding(guidance, width: 8)))
        #expect(told.values != Guidance.embedding(2, width: 8))
        let sizes = try #require(await backend.inputs("sizes", of: Self.denoiser).first)
        #expect(sizes == Tensor(shape: [1, 6], values: [64, 64, 0, 0, 64, 64]))
    }

    @Test func statesAndPooledOutputsAreNotJoined() async throws {
        let both = ["last_hidden_state", "pooled_outputs"].map {
            DenoiserFacts.TextOutput(component: .textEncoder, output: $0)
        }
        for wrong in [both, both.reversed()] {
            let error = await #expect(throws: DiffusionError.self) { try await draw(["pooled": .text(wrong)]) }
            #expect(error?.description.contains("text_encoder") == true)
        }
    }

    @Test func anOutputThatNobodyGivesIsNamed() async throws {
        let error = await #expect(throws: DiffusionError.self) { try await draw(["pooled": text("novel")]) }
        #expect(error?.description.contains("not novel") == true)
    }

    @Test func aSecondEncoderWithoutATokenizerIsRefused() async throws {
        let second = DenoiserFacts.TextOutput(component: .textEncoder2, output: "pooled_outputs")
        let error = await #expect(throws: DiffusionError.self) { try await draw(["pooled": .text([second])]) }
        #expect(error?.description.contains("pipeline.tokenizer_2") == true)
    }
}
