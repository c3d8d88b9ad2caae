/// A request with every default of the model filled in, and checked.
struct ResolvedRequest: Sendable {
    /// As asked for, with steps, guidance, scheduler and size set.
    let request: GenerationRequest
    let steps: Int
    let guidance: Float
    let scheduler: SchedulerName
    let size: ImageSize
    let latentSize: ImageSize
    /// The one for so many steps.
    let denoiser: DenoiserFacts
    /// Whether the denoiser runs for the negative prompt too.
    let isGuided: Bool

    /// - Throws: ``DiffusionError/invalidRequest(reason:)``, ``DiffusionError/unsupportedSize(available:)``.
    init(_ request: GenerationRequest, bundle: ModelBundle) throws {
        let facts = bundle.pipeline
        steps = request.steps ?? facts.advice.steps ?? 20
        guidance = request.guidance ?? facts.advice.guidance ?? 7.5
        scheduler = request.scheduler ?? facts.advice.scheduler ?? .dpmSolver
        size = request.size ?? bundle.sizes[0]
        latentSize = try bundle.latentSize(for: size)
        denoiser = facts.denoiser(for: steps)
        isGuided = denoiser.guidance == .classifierFree && guidance > 1
        try Self.check(request, steps: steps, guidance: guidance, size: size, trained: bundle)
        var resolved = request
        resolved.steps = steps
        resolved.guidance = guidance
        resolved.scheduler = scheduler
        resolved.size = size
        self.request = resolved
    }

    private static func check(
        _ request: GenerationRequest, steps: Int, guidance: Float, size: ImageSize, trained: ModelBundle
    ) throws {
        if request.prompt.allSatisfy(\.isWhitespace) {
            throw DiffusionError.invalidRequest(reason: "the prompt is empty; say what to draw")
        }
        if !(1...Limits.steps).contains(steps) {
            throw DiffusionError.invalidRequest(
                reason: "steps \(steps): give a number from 1 to \(Limits.steps)")
        }
        if !guidance.isFinite || Double(guidance) > Limits.guidance {
            throw DiffusionError.invalidRequest(
                reason: "guidance \(guidance): give a number up to \(Limits.guidance)")
        }
        guard let start = request.startImage else { return }
        if !(start.strength > 0 && start.strength <= 1) {
            throw DiffusionError.invalidRequest(
                reason: "strength \(start.strength): give a number above 0, up to 1")
        }
        if start.picture.size != size {
            throw DiffusionError.invalidRequest(
                reason: "the start image is \(start.picture.size), the picture \(size); resize it first")
        }
    }
}
