import Diffusion
import Foundation
import Observation

@MainActor
@Observable
final class PictureModel {
    var prompt = "a zebra on a blue background"
    private(set) var picture: Picture?
    private(set) var progress: Double?
    private(set) var message: String?

    private let open: @Sendable () async throws -> DiffusionPipeline
    private var pipeline: DiffusionPipeline?

    init(open: @escaping @Sendable () async throws -> DiffusionPipeline) {
        self.open = open
    }

    func prepare() async {
        do {
            let pipeline = try await open()
            for try await fraction in pipeline.prewarm() {
                progress = fraction
            }
            self.pipeline = pipeline
        } catch {
            message = "\(error)"
        }
        progress = nil
    }

    func draw() {
        guard let pipeline else { return }
        let request = GenerationRequest(prompt: prompt, seed: .random(in: 0...UInt32.max))
        Task { await follow(pipeline.generate(request)) }
    }

    private func follow(_ events: AsyncThrowingStream<GenerationEvent, any Error>) async {
        message = nil
        do {
            for try await event in events {
                switch event {
                case .loading(let fraction):
                    progress = fraction
                case .step(let step, let count, let preview):
                    progress = Double(step) / Double(count)
                    picture = preview ?? picture
                case .finished(let result, _):
                    picture = result
                }
            }
        } catch {
            message = "\(error)"
        }
        progress = nil
    }
}
