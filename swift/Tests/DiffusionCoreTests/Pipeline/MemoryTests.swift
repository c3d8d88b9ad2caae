import Foundation
import Testing

@testable import DiffusionCore

private let request = GenerationRequest(prompt: "a cat", steps: 4, guidance: 4)

@Suite("What stays in memory")
struct MemoryTests {
    @Test func allResidentLoadsEverythingOnce() async throws {
        let backend = ScriptedBackend()
        let pipeline = try ScriptedBundle.pipeline(backend, chunks: 3, policy: .allResident)
        _ = try await pipeline.image(for: request)
        _ = try await pipeline.image(for: request)
        #expect(await backend.loads == ["text_encoder", "unet1", "unet2", "unet3", "vae_decoder"])
        #expect(await backend.mostResident == 5)
        try await pipeline.unload()
        #expect(await backend.resident.isEmpty)
    }

    @Test func stageByStageHoldsOneComponent() async throws {
        let backend = ScriptedBackend()
        let pipeline = try ScriptedBundle.pipeline(backend, chunks: 3, policy: .stageByStage)
        _ = try await pipeline.image(for: request)
        #expect(await backend.loads == ["text_encoder", "unet1", "unet2", "unet3", "vae_decoder"])
        #expect(await backend.mostResident == 3)
        #expect(await backend.mostComponents == 1)
        #expect(await backend.resident.isEmpty)
    }

    @Test func chunkByChunkHoldsOneFile() async throws {
        let backend = ScriptedBackend()
        let pipeline = try ScriptedBundle.pipeline(backend, chunks: 3, policy: .chunkByChunk)
        let picture = try await pipeline.image(for: request)
        #expect(await backend.mostResident == 1)
        #expect(await backend.loads.filter { $0 == "unet2" }.count == 4, "once a step")
        #expect(await backend.resident.isEmpty)
        let other = try ScriptedBundle.pipeline(ScriptedBackend(), chunks: 3)
        #expect(try await other.image(for: request) == picture)
    }

    @Test func prewarmTakesOneFileAtATimeAndLeavesNothing() async throws {
        let backend = ScriptedBackend()
        let pipeline = try ScriptedBundle.pipeline(backend, chunks: 2)
        var fractions: [Double] = []
        for try await fraction in pipeline.prewarm() { fractions.append(fraction) }
        #expect(fractions.first == 0 && fractions.last == 1)
        #expect(fractions == fractions.sorted())
        #expect(
            await backend.prewarmed == ["text_encoder", "unet1", "unet2", "vae_decoder", "vae_encoder"])
        #expect(await backend.resident.isEmpty)
    }
}

@Suite("When something goes wrong")
struct InterruptionTests {
    @Test(arguments: MemoryPolicy.allCases)
    func aCancelledTaskStopsBetweenChunksAndFreesMemory(policy: MemoryPolicy) async throws {
        let backend = ScriptedBackend(slow: true)
        let pipeline = try ScriptedBundle.pipeline(backend, chunks: 4, policy: policy)
        var long = request
        long.steps = 400
        let copy = long
        let task = Task { try await pipeline.image(for: copy) }
        while await backend.runs.count < 12 { try await Task.sleep(for: .milliseconds(1)) }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        let runs = await backend.runs.count
        #expect(runs < 40)
        #expect(await backend.resident.isEmpty)
        _ = try await pipeline.image(for: request)
    }

    @Test func leavingTheLoopStopsTheWork() async throws {
        let backend = ScriptedBackend(slow: true)
        let pipeline = try ScriptedBundle.pipeline(backend)
        var long = request
        long.steps = 400
        for try await event in pipeline.generate(long) {
            if case .step(2, _, _) = event { break }
        }
        try await pipeline.unload()  // waits for its turn
        let runs = await backend.runs.count
        #expect(runs < 20)
        #expect(await backend.resident.isEmpty)
    }

    @Test(arguments: [1, 3, 5, 8, 15])
    func aFailingBackendInTheMiddleOfAStepLeavesAWorkingPipeline(run: Int) async throws {
        let backend = ScriptedBackend(failingRun: run)
        let pipeline = try ScriptedBundle.pipeline(backend, chunks: 3)
        let error = await #expect(throws: DiffusionError.self) { try await pipeline.image(for: request) }
        #expect(error?.description.contains("told to fail") == true)
        #expect(await backend.resident.isEmpty)
        let after = try await pipeline.image(for: request)
        let undisturbed = try ScriptedBundle.pipeline(ScriptedBackend(), chunks: 3)
        #expect(try await undisturbed.image(for: request) == after)
    }

    @Test func twoRequestsAtOnceAreDrawnOneAfterAnother() async throws {
        let backend = ScriptedBackend(slow: true)
        let pipeline = try ScriptedBundle.pipeline(backend, policy: .stageByStage)
        async let first = pipeline.image(for: request)
        async let second = pipeline.image(for: request)
        #expect(try await first == second)
        #expect(await backend.mostResident == 1)
        #expect(await backend.runs.filter { $0 == "vae_decoder" }.count == 2)
    }

    @Test func twoPipelinesAtOnceDoNotDisturbEachOther() async throws {
        let alone = try await ScriptedBundle.pipeline(ScriptedBackend()).image(for: request)
        try await withThrowingTaskGroup(of: Picture.self) { group in
            for _ in 0..<4 {
                let pipeline = try ScriptedBundle.pipeline(ScriptedBackend(slow: true))
                group.addTask { try await pipeline.image(for: request) }
            }
            for try await picture in group { #expect(picture == alone) }
        }
    }

    @Test func aTaskThatIsCancelledWhileItWaitsGivesUpItsTurn() async throws {
        let backend = ScriptedBackend(slow: true)
        let pipeline = try ScriptedBundle.pipeline(backend)
        var long = request
        long.steps = 30
        let copy = long
        let first = Task { try await pipeline.image(for: copy) }
        while await backend.runs.isEmpty { try await Task.sleep(for: .milliseconds(1)) }
        let waiting = Task { try await pipeline.image(for: request) }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        _ = try await first.value
        #expect(await backend.runs.filter { $0 == "vae_decoder" }.count == 1)
    }
}
