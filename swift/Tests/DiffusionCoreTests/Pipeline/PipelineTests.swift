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
        #expect(await refusal { $0.guidance = .nan } != nil)
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

    @Test func previewsNeedNoModel() async throws {
        let pipeline = DiffusionPipeline.preview(pace: .zero)
        let picture = try await pipeline.image(for: "anything")
        #expect(Set(picture.rgb).count > 1)
        #expect(try await pipeline.image(for: "anything") == picture)
    }
}
