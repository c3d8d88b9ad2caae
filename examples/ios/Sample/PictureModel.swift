// A sample: no Xcode and no iOS SDK on the machines that coreml-sd is built on, so it was not compiled for iOS.

import Diffusion
import Foundation
import Observation

/// What the screen shows, and what its buttons do.
@MainActor
@Observable
final class PictureModel {
    enum Phase: Equatable {
        /// Models are being compiled for this device, once after an installation or a system update.
        case preparing(fraction: Double)
        case ready
        case loading(fraction: Double)
        case drawing(step: Int, of: Int)
        case failed(problem: String, remedy: String?)
    }

    var prompt = "a zebra on a blue background"
    private(set) var phase = Phase.preparing(fraction: 0)
    /// The rough preview while it draws, then the picture itself.
    private(set) var picture: Picture?
    private(set) var seconds: Double?

    private let open: @Sendable () async throws -> DiffusionPipeline
    private let memory: UserDefaults
    private var pipeline: DiffusionPipeline?
    private var drawing: Task<Void, Never>?

    /// - Parameters:
    ///   - memory: remembers for which system the models were prepared.
    ///   - open: makes the pipeline; called again after a failure.
    init(
        memory: UserDefaults = .standard, open: @escaping @Sendable () async throws -> DiffusionPipeline
    ) {
        self.memory = memory
        self.open = open
    }

    var canDraw: Bool {
        guard case .ready = phase else { return false }
        return !prompt.allSatisfy(\.isWhitespace)
    }

    var isDrawing: Bool { drawing != nil }

    /// Open the bundle, and let each model be compiled for this device the first time.
    func prepare() async {
        phase = .preparing(fraction: 0)
        do {
            let pipeline = try await open()
            let system = ProcessInfo.processInfo.operatingSystemVersionString
            let key = "prepared for \(pipeline.backend.name)"
            if memory.string(forKey: key) != system {
                for try await fraction in pipeline.prewarm() {
                    phase = .preparing(fraction: fraction)
                }
                try Task.checkCancellation()
                memory.set(system, forKey: key)
            }
            self.pipeline = pipeline
            phase = .ready
        } catch is CancellationError {
            // The view has gone; it prepares again when it comes back.
        } catch {
            fail(error)
        }
    }

    func draw() {
        guard let pipeline, drawing == nil else { return }
        let request = GenerationRequest(prompt: prompt, seed: .random(in: 0...UInt32.max))
        seconds = nil
        phase = .loading(fraction: 0)
        drawing = Task {
            await follow(pipeline.generate(request))
            drawing = nil
        }
    }

    /// Stops before the next file of the network, and frees memory.
    func cancel() {
        drawing?.cancel()
    }

    private func follow(_ events: AsyncThrowingStream<GenerationEvent, any Error>) async {
        do {
            for try await event in events {
                switch event {
                case .loading(let fraction):
                    phase = .loading(fraction: fraction)
                case .step(let step, let count, let preview):
                    phase = .drawing(step: step, of: count)
                    picture = preview ?? picture
                case .finished(let picture, let report):
                    self.picture = picture
                    seconds = report.seconds.load + report.seconds.encodePrompt
                        + report.seconds.denoise + report.seconds.decode
                }
            }
            phase = .ready
        } catch is CancellationError {
            phase = .ready
        } catch {
            fail(error)
        }
    }

    private func fail(_ error: any Error) {
        let localized = error as? any LocalizedError
        phase = .failed(
            problem: localized?.errorDescription ?? error.localizedDescription,
            remedy: localized?.recoverySuggestion)
    }
}
