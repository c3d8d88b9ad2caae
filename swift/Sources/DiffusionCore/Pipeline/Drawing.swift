import Foundation

/// One picture from prompt to pixels: encode the prompt, find where to start, denoise, decode.
struct Drawing: Sendable {
    let request: ResolvedRequest
    let bundle: ModelBundle
    let backend: any ModelBackend
    let memoryPolicy: MemoryPolicy
    let tokenizer: CLIPTokenizer
    let residency: Residency
    let report: @Sendable (GenerationEvent) -> Void
    private let signposts = Signposts()

    init(
        request: ResolvedRequest, bundle: ModelBundle, backend: any ModelBackend,
        memoryPolicy: MemoryPolicy, tokenizer: CLIPTokenizer, residency: Residency,
        report: @escaping @Sendable (GenerationEvent) -> Void
    ) {
        self.request = request
        self.bundle = bundle
        self.backend = backend
        self.memoryPolicy = memoryPolicy
        self.tokenizer = tokenizer
        self.residency = residency
        self.report = report
    }

    /// - Throws: ``DiffusionError``; `CancellationError`.
    func draw() async throws -> Picture {
        var seconds = StageSeconds()
        var random = request.request.randomSource.source(seed: request.request.seed) as any RandomSource
        let scheduler = try makeScheduler()
        let conditions = try await encodePrompts(&seconds)
        let start = try await startLatent(scheduler, &random, &seconds)
        let latent = try await stage("Denoise", request.denoiser.component, &seconds, \.denoise) {
            try await denoise($0, start, conditions, scheduler, &random)
        }
        let picture = try await stage("Decode", .vaeDecoder, &seconds, \.decode) {
            try await decode($0, latent)
        }
        let made = GenerationReport(
            request: request.request, backend: backend.name, memoryPolicy: memoryPolicy,
            cutPrompt: conditions.cut, seconds: seconds)
        report(.finished(picture, made))
        return picture
    }

    private func makeScheduler() throws -> any Scheduler {
        try request.scheduler.scheduler(
            config: SchedulerConfig(bundle.pipeline.scheduler), steps: request.steps)
    }

    /// Load a component, do its stage, and let the policy free it; each is timed.
    func stage<Result: Sendable>(
        _ name: StaticString, _ component: Component, _ seconds: inout StageSeconds,
        _ part: WritableKeyPath<StageSeconds, Double>, _ work: ([ModelFile]) async throws -> Result
    ) async throws -> Result {
        let files = try bundle.files(of: component, for: backend.target, size: request.size)
        let begun = ContinuousClock.now
        try await signposts.interval("Load") {
            try await residency.load(files) { report(.loading(fraction: $0)) }
        }
        let loaded = ContinuousClock.now
        let result = try await signposts.interval(name) { try await work(files) }
        await residency.finished(with: files)
        seconds.load += (loaded - begun) / .seconds(1)
        seconds[keyPath: part] += (ContinuousClock.now - loaded) / .seconds(1)
        return result
    }

    /// The latent `(1, C, h, w)` that denoising starts from, and the first step to take.
    private func startLatent(
        _ scheduler: any Scheduler, _ random: inout any RandomSource, _ seconds: inout StageSeconds
    ) async throws -> Denoiser.Start {
        let shape = [1, bundle.pipeline.latentChannels, request.latentSize.height, request.latentSize.width]
        let count = shape.reduce(1, *)
        guard let start = request.request.startImage else {
            let noise = random.normal(count).map { $0 * scheduler.initialNoiseScale }
            return Denoiser.Start(latent: Tensor(shape: shape, values: noise), step: 0)
        }
        let moments = try await stage("Encode start image", .vaeEncoder, &seconds, \.encodePrompt) {
            try await residency.run($0, ["x": start.picture.tensor]).named(
                "latent", of: .vaeEncoder, shape: [1, 2 * shape[1], shape[2], shape[3]])
        }
        let facts = bundle.pipeline
        let clean = sampled(moments, noise: random.normal(count)).map {
            ($0 - facts.shiftFactor) * facts.scalingFactor
        }
        let step = ImageToImageStart.startStep(steps: request.steps, strength: start.strength)
        let noised = scheduler.addNoise(to: clean, noise: random.normal(count), step: step)
        return Denoiser.Start(latent: Tensor(shape: shape, values: noised), step: step)
    }

    private func denoise(
        _ files: [ModelFile], _ start: Denoiser.Start, _ conditions: PromptConditions,
        _ scheduler: any Scheduler, _ random: inout any RandomSource
    ) async throws -> Tensor {
        let denoiser = Denoiser(
            component: request.denoiser.component, files: files, residency: residency,
            batch: bundle.pipeline.batch(of: request.denoiser), guidance: request.guidance, conditions: conditions)
        return try await denoiser.run(start, scheduler, &random) { done, count, latent in
            let preview = preview(of: latent, done, count, scheduler, nextStep: start.step + done)
            report(.step(done, of: count, preview: preview))
        }
    }

    /// The rough picture after a step, where the request asks for one.
    private func preview(
        of latent: Tensor, _ done: Int, _ count: Int, _ scheduler: any Scheduler, nextStep: Int
    ) -> Picture? {
        let every = request.request.previewEvery
        guard every > 0, done % every == 0, let preview = LatentPreview(bundle.pipeline) else { return nil }
        // As the UNet would see it in the next step; the last latent is already of that size.
        let scale = done < count ? scheduler.inputScale(step: nextStep) : 1
        return preview.picture(
            of: Tensor(shape: latent.shape, values: latent.values.map { $0 * scale }))
    }

    private func decode(_ files: [ModelFile], _ latent: Tensor) async throws -> Picture {
        let facts = bundle.pipeline
        var z = latent
        for index in z.values.indices {
            z.values[index] = z.values[index] / facts.scalingFactor + facts.shiftFactor
        }
        let image = try await residency.run(files, ["z": z]).named("image", of: .vaeDecoder)
        return try Picture(image: image)
    }
}

extension [String: Tensor] {
    /// One output of a component, checked to be finite.
    ///
    /// - Parameter shape: what it must have; nil where the caller looks.
    /// - Throws: ``DiffusionError/wrongInput(network:reason:)`` where it is not there or of another
    ///   shape, ``DiffusionError/notFinite(_:)``.
    func named(_ name: String, of component: Component, shape: [Int]? = nil) throws -> Tensor {
        guard let tensor = self[name] else {
            throw DiffusionError.wrongInput(
                network: component.rawValue,
                reason: "gives \(keys.sorted().joined(separator: ", ")), not \(name); convert again")
        }
        if let shape, tensor.shape != shape {
            throw DiffusionError.wrongInput(
                network: component.rawValue, reason: "gives shape \(tensor.shape), not \(shape); convert again")
        }
        guard tensor.isFinite else { throw DiffusionError.notFinite(component) }
        return tensor
    }
}
