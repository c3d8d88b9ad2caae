import Foundation
import Testing

@testable import DiffusionCore

private let request = GenerationRequest(prompt: "a cat", steps: 3, guidance: 4, seed: 7)

@Suite("A pipeline")
struct PipelineTests {
    @Test func tellsWhatItDoesInOrder() async throws {
        let pipeline = try ScriptedBundle.pipeline(ScriptedBackend())
        var steps: [Int] = []
        var fractions: [Double] = []
        var finished: (Picture, GenerationReport)?
        for try await event in pipeline.generate(request) {
            #expect(finished == nil, "nothing comes after the picture")
            switch event {
            case .loading(let fraction): fractions.append(fraction)
            case .step(let step, let count, let preview):
                steps.append(step)
                #expect(count == 3)
                #expect(preview?.size == ImageSize(height: 8, width: 8))
            case .finished(let picture, let report): finished = (picture, report)
            }
        }
        #expect(steps == [1, 2, 3])
        #expect(fractions == [0, 1, 0, 1, 0, 1], "one stage after another")
        let (picture, report) = try #require(finished)
        #expect(picture.size == ImageSize(height: 64, width: 64))
        #expect(report.request.steps == 3 && report.request.size == picture.size)
        #expect(report.backend == "scripted" && report.cutPrompt.isEmpty)
    }

    @Test func takesTheModelsAdvice() async throws {
        let pipeline = try ScriptedBundle.pipeline(ScriptedBackend())
        var count = 0
        for try await event in pipeline.generate(GenerationRequest(prompt: "a cat")) {
            if case .step(_, let steps, _) = event { count = steps }
            if case .finished(_, let report) = event { #expect(report.request.guidance == 7.5) }
        }
        #expect(count == 20)
    }

    @Test(arguments: [SchedulerName.pndm, .eulerAncestral, nil])
    func drawsWithTheModelsSchedulerUnlessTold(own: SchedulerName?) throws {
        var manifest = ScriptedBundle.make().manifest
        manifest.pipeline.advice.scheduler = own
        let bundle = ModelBundle(url: URL(fileURLWithPath: "/scripted"), manifest: manifest)
        let unsaid = try ResolvedRequest(request, bundle: bundle)
        #expect(unsaid.scheduler == own ?? .dpmSolver, "older manifests say nothing")
        #expect(unsaid.request.scheduler == unsaid.scheduler, "the report tells it")
        var told = request
        told.scheduler = .uniPC
        #expect(try ResolvedRequest(told, bundle: bundle).scheduler == .uniPC)
    }

    @Test func theSameRequestGivesTheSamePictureAndAnotherSeedAnother() async throws {
        let pipeline = try ScriptedBundle.pipeline(ScriptedBackend())
        let first = try await pipeline.image(for: request)
        #expect(try await pipeline.image(for: request) == first)
        var other = request
        other.seed = 8
        #expect(try await pipeline.image(for: other) != first)
        other = request
        other.negativePrompt = "a dog"
        #expect(try await pipeline.image(for: other) != first)
    }

    @Test(arguments: SchedulerName.allCases)
    func chunksAndBatchesMakeNoDifference(scheduler: SchedulerName) async throws {
        var request = request
        request.scheduler = scheduler
        let whole = try await ScriptedBundle.pipeline(ScriptedBackend()).image(for: request)
        let single = try await ScriptedBundle.pipeline(ScriptedBackend(), batch: 1).image(for: request)
        #expect(single == whole)
        let backend = ScriptedBackend()
        _ = try await ScriptedBundle.pipeline(backend, chunks: 5).image(for: request)
        let runs = await backend.runs.filter { $0.hasPrefix("unet") }
        #expect(Array(runs.prefix(6)) == ["unet1", "unet2", "unet3", "unet4", "unet5", "unet1"])
    }

    @Test func withoutGuidanceTheNegativePromptIsNotEncoded() async throws {
        let backend = ScriptedBackend()
        var unguided = request
        unguided.guidance = 1
        _ = try await ScriptedBundle.pipeline(backend, batch: 1).image(for: unguided)
        let runs = await backend.runs
        #expect(runs == ["text_encoder", "unet1", "unet1", "unet1", "vae_decoder"])
    }

    @Test func startsFromAPicture() async throws {
        let backend = ScriptedBackend()
        let size = ImageSize(height: 64, width: 64)
        let start = Picture(size: size, rgb: Array(repeating: 200, count: 3 * 64 * 64))
        var over = request
        over.steps = 10
        over.startImage = StartImage(picture: start, strength: 0.5)
        _ = try await ScriptedBundle.pipeline(backend, batch: 2).image(for: over)
        let runs = await backend.runs
        #expect(runs.filter { $0 == "vae_encoder" }.count == 1)
        #expect(runs.filter { $0 == "unet1" }.count == 5, "half of the ten steps")
    }

    @Test func refusesWhatMakesNoSense() async throws {
        let pipeline = try ScriptedBundle.pipeline(ScriptedBackend())
        func refusal(_ change: (inout GenerationRequest) -> Void) async -> DiffusionError? {
            var wrong = request
            change(&wrong)
            let copy = wrong
            return await #expect(throws: DiffusionError.self) { try await pipeline.image(for: copy) }
        }
        let size = ImageSize(height: 64, width: 64)
        #expect(await refusal { $0.prompt = " \n" }?.description.contains("empty") == true)
        #expect(await refusal { $0.steps = 0 }?.description.contains("steps 0") == true)
        #expect(await refusal { $0.steps = 1001 }?.description.contains("1 to 1000") == true)
        #expect(await refusal { $0.steps = Int.max }?.description.contains("1 to 1000") == true)
        #expect(await refusal { $0.guidance = .nan } != nil)
        #expect(await refusal { $0.guidance = 101 }?.description.contains("up to 100") == true)
        #expect(
            await refusal { $0.size = ImageSize(height: 64, width: 96) }
                == .unsupportedSize(available: [size]))
        let small = Picture(size: ImageSize(height: 1, width: 1), rgb: [0, 0, 0])
        #expect(
            await refusal { $0.startImage = StartImage(picture: small) }?.description.contains("resize") == true)
    }

    @Test func saysWhichNetworkGaveNaN() async throws {
        let pipeline = try ScriptedBundle.pipeline(ScriptedBackend(answersNaN: true))
        await #expect(throws: DiffusionError.notFinite(.textEncoder)) {
            try await pipeline.image(for: request)
        }
    }

    @Test func saysWhichPartOfThePromptWasCut() async throws {
        let pipeline = try ScriptedBundle.pipeline(ScriptedBackend())
        var long = request
        long.prompt = "abcdefghijklmnopqrstuvwxyz"
        for try await event in pipeline.generate(long) {
            if case .finished(_, let report) = event { #expect(report.cutPrompt == long.prompt) }
        }
    }

    @Test func requestsCanBeSaved() throws {
        var saved = request
        saved.startImage = StartImage(
            picture: Picture(size: ImageSize(height: 1, width: 2), rgb: [1, 2, 3, 4, 5, 6]), strength: 0.5)
        let data = try JSONEncoder().encode(saved)
        #expect(try JSONDecoder().decode(GenerationRequest.self, from: data) == saved)
    }

    @Test("a saved picture whose bytes are not those of its size is refused", arguments: [
        (1, 3), (-1, -2), (1 << 62, 4), (8193, 8193),
    ])
    func savedPicture(height: Int, width: Int) throws {
        let text = #"{"size":{"height":\#(height),"width":\#(width)},"rgb":[1,2,3,4,5,6]}"#
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode(Picture.self, from: Data(text.utf8))
        }
        let right = #"{"size":{"height":1,"width":2},"rgb":[1,2,3,4,5,6]}"#
        #expect(try JSONDecoder().decode(Picture.self, from: Data(right.utf8)).rgb.count == 6)
    }

    @Test("a network that gives another shape than is needed is told", arguments: [
        (Component.textEncoder, "last_hidden_state", [2, 16, 8]), (.unet, "noise_pred", [2, 4, 8, 7]),
        (.unet, "noise_pred", [1, 4, 8, 8]), (.vaeDecoder, "image", [2, 3, 64, 64]),
        (.vaeEncoder, "latent", [1, 7, 8, 8]),
    ])
    func anotherShape(component: Component, output: String, shape: [Int]) async throws {
        let backend = MisshapenBackend(component: component, output: output, shape: shape)
        var request = request
        let size = ImageSize(height: 64, width: 64)
        request.startImage = StartImage(
            picture: Picture(size: size, rgb: [UInt8](repeating: 9, count: 3 * 64 * 64)))
        let pipeline = try ScriptedBundle.pipeline(backend)
        let error = await #expect(throws: DiffusionError.self) { try await pipeline.image(for: request) }
        #expect(error?.description.contains("gives shape \(shape)") == true)
    }

    @Test func previewsNeedNoModel() async throws {
        let pipeline = DiffusionPipeline.preview(pace: .zero)
        let picture = try await pipeline.image(for: "anything")
        #expect(Set(picture.rgb).count > 1)
        #expect(try await pipeline.image(for: "anything") == picture)
    }
}

/// Gives one output in another shape.
private struct MisshapenBackend: ModelBackend {
    let name = "misshapen"
    let target = Target.coreml
    let component: Component
    let output: String
    let shape: [Int]

    func load(_ file: ModelFile) async throws -> any Network { MisshapenNetwork(file: file, backend: self) }

    func prewarm(_ file: ModelFile) async throws {}

    func interface(of file: URL) async throws -> NetworkInterface {
        NetworkInterface(inputs: [:], outputs: [:])
    }
}

private struct MisshapenNetwork: Network {
    let file: ModelFile
    let backend: MisshapenBackend

    var interface: NetworkInterface { ScriptedBundle.interface(of: file) }

    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        var outputs = interface.outputs.mapValues { Tensor(shape: $0.shape) }
        if file.component == backend.component { outputs[backend.output] = Tensor(shape: backend.shape) }
        return outputs
    }

    func unload() async {}
}
