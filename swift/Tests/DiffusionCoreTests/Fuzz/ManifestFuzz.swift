import DiffusionTestSupport
import Foundation

@testable import DiffusionCore

/// Manifests with values that make no sense, and what generation computes first of them.
struct ManifestFuzz {
    let folder: TemporaryFolder
    let manifest: JSONValue
    let vocabulary: Vocabulary

    init() throws {
        folder = try TemporaryFolder()
        vocabulary = try VocabularyReader(folder: TokenizerFixture.demoFolder).read()
        var manifest = try JSONDecoder().decode(JSONValue.self, from: BundleFixtures.demoManifest())
        for key in ["tool", "config", "notes"] { manifest = manifest.with(nil, at: [.string(key)]) }
        for component in ["text_encoder", "unet", "vae_decoder", "vae_encoder"] {
            for key in ["weights", "ops", "seams", "parity"] {
                manifest = manifest.with(
                    nil, at: [.string("components"), .string(component), .string(key)])
            }
        }
        let size = JSONValue.array([.integer(64), .integer(64)])
        let latent = JSONValue.array([.integer(16), .integer(16)])
        manifest = manifest.with(
            .array([.object(["size": size, "latent_size": latent, "function": .string("main")])]),
            at: [.string("pipeline"), .string("sizes")])
        let word = AddedToken(content: "hello", id: 5)
        let words = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode([word]))
        manifest = manifest.with(words, at: [.string("pipeline"), .string("tokenizer"), .string("added_tokens")])
        self.manifest = manifest
    }

    /// The manifest with a denoiser that is told the guidance and the size too.
    var manifestOfManyConditions: JSONValue {
        let place = [JSONValue.string("pipeline"), .string("denoiser"), .string("conditions")]
        let guidance = JSONValue.object(["kind": .string("guidance"), "width": .integer(256)])
        return manifest.with(guidance, at: (place + [.string("timestep_cond")])[...])
            .with(.object(["kind": .string("size")]), at: (place + [.string("time_ids")])[...])
    }

    /// Open a manifest and go on as far as is possible without networks.
    ///
    /// - Returns: whether it opened.
    func open(_ bytes: [UInt8], _ noise: inout Noise) throws -> Bool {
        try folder.write("manifest.json", bytes)
        var bundle: ModelBundle?
        try orRefusal { bundle = try ModelBundle(at: folder.url, checking: .nothing) }
        guard let bundle else { return false }
        try use(bundle, &noise)
        return true
    }

    private func use(_ bundle: ModelBundle, _ noise: inout Noise) throws {
        for target in Target.allCases {
            try orRefusal { _ = try bundle.allFiles(for: target) }
            try orRefusal { _ = try MemoryPolicy.suited(to: bundle, target: target, available: 1 << 30) }
        }
        for component in bundle.components {
            try orRefusal { _ = try bundle.interface(of: component).inputs.mapValues(\.count) }
        }
        var request = GenerationRequest(prompt: "hello, a zebra on a blue background")
        if noise.next(below: 2) == 0 { request.steps = noise.pick([0, 1, 2, 50, 999, 1000, 1001, Int.max, -1]) }
        if noise.next(below: 4) == 0 { request.guidance = noise.pick([.infinity, -.infinity, 1e30, -3, 0]) }
        request.scheduler = noise.next(below: 2) == 0 ? nil : noise.pick(SchedulerName.allCases)
        request.size = noise.next(below: 8) == 0 ? ImageSize(height: Int.max, width: -1) : nil
        try orRefusal {
            let resolved = try ResolvedRequest(request, bundle: bundle)
            _ = try bundle.latentSize(for: resolved.size)
            let scheduler = try resolved.scheduler.scheduler(
                config: SchedulerConfig(bundle.pipeline.scheduler), steps: resolved.steps)
            walk(scheduler)
        }
        try tokenize(request.prompt, bundle.pipeline)
        preview(bundle.pipeline)
        for case .guidance(let width) in bundle.pipeline.denoiser.conditions.values {
            _ = Guidance.embedding(bundle.pipeline.advice.guidance ?? 1, width: width)
        }
    }

    /// The first steps and the last of a tiny latent.
    private func walk(_ scheduler: any Scheduler) {
        var scheduler = scheduler
        var latent: [Float] = [0.5, -1, 2, 0]
        let count = scheduler.timesteps.count
        for step in 0..<count where step < 4 || step == count - 1 {
            latent = scheduler.addNoise(to: latent, noise: [1, 0, -1, 2], step: step)
            latent = latent.map { $0 * scheduler.inputScale(step: step) }
        }
        for step in 0..<min(count, 4) {
            latent = scheduler.step(latent, prediction: [0.1, 0.2, -0.3, 0], step: step) {
                [Float](repeating: 0.5, count: $0)
            }
        }
    }

    private func tokenize(_ prompt: String, _ facts: PipelineFacts) throws {
        let tokenizer = CLIPTokenizer(vocabulary: vocabulary, facts: facts.tokenizer)
        let ids = tokenizer.frame(prompt).ids
        guard ids.count == facts.maxTokens else { throw FuzzRun.Failure(description: "\(ids.count) ids") }
        if let second = facts.tokenizer2 { try orRefusal { _ = try tokenizer.with(second).frame(prompt) } }
    }

    private func preview(_ facts: PipelineFacts) {
        guard let preview = LatentPreview(facts) else { return }
        _ = preview.picture(of: Tensor(shape: [1, facts.latentChannels, 2, 3], repeating: 0.5))
    }
}

extension Noise {
    /// With values at a few places that are wrong, odd, or those of another place.
    mutating func changed(_ value: JSONValue) -> JSONValue {
        let step: JSONValue
        let inner: JSONValue
        switch value {
        case .object(let table) where !table.isEmpty && next(below: 12) > 0:
            let key = pick(table.keys.sorted())
            (step, inner) = (.string(key), table[key] ?? .null)
        case .array(let list) where !list.isEmpty && next(below: 6) > 0:
            let index = next(below: list.count)
            (step, inner) = (.integer(index), list[index])
        default: return odd(value)
        }
        return value.with(next(below: 40) == 0 ? nil : changed(inner), at: [step])
    }

    private mutating func odd(_ value: JSONValue) -> JSONValue {
        let whole = [0, -1, 1, 2, 3, 4, 77, 128, 1000, 10_000, 10_001, 40_000, 1 << 31, 1 << 32, 1 << 62]
        let numbers = [0.5, -0.5, 1e-300, 1e300, -1e300, 1e6, 1e-7, 0.999, 4.0, 3e38]
        let words = SchedulerName.allCases.map(\.rawValue) + [
            "", "x", "../x", "/etc/passwd", "squaredcos_cap_v2", "linear", "leading", "trailing", "linspace",
            "sample", "epsilon", "v_prediction", "bh1", "heun", "sigma_min", "log_linear", "continuous",
            String(repeating: "a", count: 2000), "\u{0}", "e\u{301}", "stable-diffusion-xl",
        ]
        switch next(below: 9) {
        case 0, 1: return .integer(pick(whole + [Int.max, Int.min]))
        case 2: return .number(pick(numbers))
        case 3: return .string(pick(words))
        case 4: return pick([.null, .bool(true), .bool(false)])
        case 5: return .array(Array(repeating: value, count: pick([0, 1, 2, 3, 9, 300])))
        case 6: return .object([pick(words): value])
        case 7:
            guard case .integer(let number) = value else { return .array([value]) }
            return .integer(number &* pick([2, -1, 1000, 1 << 40]) &+ pick([0, 1, -1]))
        default:
            guard case .object(var table) = value else { return .object([:]) }
            for key in table.keys where next(below: 3) == 0 { table[key] = pick(table.values.map { $0 }) }
            return .object(table)
        }
    }
}
