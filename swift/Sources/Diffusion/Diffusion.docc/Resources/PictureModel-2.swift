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
}
