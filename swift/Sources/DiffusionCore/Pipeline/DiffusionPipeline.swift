import Foundation

/// Draws pictures from one bundle.
///
/// ```swift
/// let pipeline = try await DiffusionPipeline(bundle: url)
/// let picture = try await pipeline.image(for: "a zebra on a blue background")
/// ```
///
/// Any number of tasks may ask at once; pictures are drawn one after another. To draw two at the
/// same time, make two pipelines.
public actor DiffusionPipeline {
    /// What is drawn from.
    public nonisolated let bundle: ModelBundle
    /// What runs the networks.
    public nonisolated let backend: any ModelBackend
    /// What stays in memory.
    public nonisolated let memoryPolicy: MemoryPolicy

    private let tokenizer: CLIPTokenizer
    private let residency: Residency
    private let turns = Turns()

    /// A pipeline on a backend of your choice. The networks are loaded with the first picture.
    ///
    /// - Parameter memoryPolicy: nil takes what fits the memory that is free now.
    /// - Throws: ``DiffusionError/missingTarget(_:held:)``, ``DiffusionError/missingComponent(_:held:)``
    ///   or an error of the tokenizer's files.
    public init(
        bundle: ModelBundle, backend: any ModelBackend, memoryPolicy: MemoryPolicy? = nil
    ) throws {
        let policy = try memoryPolicy ?? MemoryPolicy.suited(to: bundle, target: backend.target)
        self.init(
            bundle: bundle, backend: backend, memoryPolicy: policy,
            tokenizer: try CLIPTokenizer(folder: bundle.url, facts: bundle.pipeline.tokenizer))
    }

    init(
        bundle: ModelBundle, backend: any ModelBackend, memoryPolicy: MemoryPolicy,
        tokenizer: CLIPTokenizer
    ) {
        self.bundle = bundle
        self.backend = backend
        self.memoryPolicy = memoryPolicy
        self.tokenizer = tokenizer
        residency = Residency(backend: backend, policy: memoryPolicy)
    }

    /// Draw, and tell how it goes. The last event is ``GenerationEvent/finished(_:_:)``.
    ///
    /// Cancelling the task that reads the events, or leaving the loop, stops between two files and
    /// frees every network; a cancelled loop ends without a last event.
    public nonisolated func generate(
        _ request: GenerationRequest
    ) -> AsyncThrowingStream<GenerationEvent, any Error> {
        stream { pipeline, report in try await pipeline.draw(request, report: report) }
    }

    /// One picture for a prompt, with the model's own advice for everything else.
    public func image(for prompt: String) async throws -> Picture {
        try await image(for: GenerationRequest(prompt: prompt, previewEvery: 0))
    }

    /// One picture.
    ///
    /// - Throws: ``DiffusionError``; `CancellationError` where the task is cancelled.
    public func image(for request: GenerationRequest) async throws -> Picture {
        try await draw(request) { _ in }
    }

    /// Do what is slow only the first time (compiling each file for this device), one file at a
    /// time so that memory stays low. Values go from 0 to 1 of the bytes.
    public nonisolated func prewarm() -> AsyncThrowingStream<Double, any Error> {
        stream { pipeline, report in try await pipeline.prewarm(report: report) }
    }

    /// Free every network; the next picture loads them again.
    public func unload() async throws {
        try await turns.take()
        await residency.unload()
        await turns.give()
    }

    @discardableResult
    private func draw(
        _ request: GenerationRequest, report: @escaping @Sendable (GenerationEvent) -> Void
    ) async throws -> Picture {
        try await turns.take()
        do {
            let drawing = try Drawing(
                request: ResolvedRequest(request, bundle: bundle), bundle: bundle, backend: backend,
                memoryPolicy: memoryPolicy, tokenizer: tokenizer, residency: residency, report: report)
            let picture = try await drawing.draw()
            await turns.give()
            return picture
        } catch {
            await residency.unload()
            await turns.give()
            throw error
        }
    }

    private func prewarm(report: @Sendable (Double) -> Void) async throws {
        let files = try bundle.allFiles(for: backend.target)
        let total = Double(max(files.map(\.weightBytes).reduce(0, +), 1))
        var done = 0.0
        report(0)
        for file in files {
            try Task.checkCancellation()
            try await backend.prewarm(file)
            done += Double(file.weightBytes)
            report(min(done / total, 1))
        }
    }

    /// A stream that runs `work` in a task of its own, which ends with the stream.
    private nonisolated func stream<Event: Sendable>(
        _ work: @escaping @Sendable (DiffusionPipeline, @escaping @Sendable (Event) -> Void) async throws -> Void
    ) -> AsyncThrowingStream<Event, any Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                do {
                    try await work(self) { continuation.yield($0) }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }
}
