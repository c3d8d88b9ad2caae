import Diffusion
import Foundation
import Testing

/// What the sample app's screen goes through, with the backend that needs no models.
@MainActor
@Suite struct PictureModelTests {
    private let memory: UserDefaults

    init() throws {
        memory = try #require(UserDefaults(suiteName: "PictureModelTests-\(UUID().uuidString)"))
    }

    private func prepared(pace: Duration = .milliseconds(1)) async -> PictureModel {
        let model = PictureModel(memory: memory) { .preview(pace: pace) }
        await model.prepare()
        return model
    }

    @Test func preparingEndsReadyAndIsRememberedForTheSystem() async {
        #expect(memory.string(forKey: "prepared for preview") == nil)
        let model = await prepared()
        #expect(model.phase == .ready)
        #expect(model.canDraw)
        #expect(
            memory.string(forKey: "prepared for preview")
                == ProcessInfo.processInfo.operatingSystemVersionString)
    }

    @Test func nothingCanBeDrawnWithoutAPrompt() async {
        let model = await prepared()
        model.prompt = "  "
        #expect(!model.canDraw)
    }

    @Test func drawingShowsStepsAndEndsWithAPicture() async throws {
        let model = await prepared(pace: .milliseconds(5))
        model.draw()
        #expect(model.isDrawing && !model.canDraw)
        try await until { if case .drawing = model.phase { true } else { false } }
        try await until { !model.isDrawing }
        #expect(model.phase == .ready)
        #expect(model.picture != nil && model.seconds != nil)
    }

    @Test func cancellingEndsReadyAgain() async throws {
        let model = await prepared(pace: .milliseconds(50))
        model.draw()
        try await until { if case .drawing = model.phase { true } else { false } }
        model.cancel()
        try await until { !model.isDrawing }
        #expect(model.phase == .ready)
        #expect(model.seconds == nil)
    }

    @Test func aFailureSaysWhatToDo() async {
        let model = PictureModel(memory: memory) {
            throw DiffusionError.missingFile(name: "UnetChunk2.mlpackage")
        }
        await model.prepare()
        #expect(
            model.phase
                == .failed(
                    problem: "UnetChunk2.mlpackage is missing from the bundle",
                    remedy: "download the bundle again or convert again"))
        #expect(!model.canDraw)
    }

    /// Waits; a test that hangs is given up after ten minutes.
    private func until(_ condition: () -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(600)
        while !condition() {
            try #require(ContinuousClock.now < end)
            try await Task.sleep(for: .milliseconds(2))
        }
    }
}
