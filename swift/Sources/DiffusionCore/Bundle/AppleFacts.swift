import Foundation

/// What networks without a manifest say of themselves.
struct AppleFacts {
    let folder: URL
    let networks: [Component: [DescribedFile]]

    func bundle() throws -> ModelBundle {
        try checkNames()
        let kept = networks.filter { $0.key != .vaeEncoder || isPlainEncoder($0.value) }
        let manifest = Manifest(
            pipeline: try pipeline(),
            components: Dictionary(
                uniqueKeysWithValues: kept.map { ($0.key.rawValue, component($0.value)) }),
            files: [:])
        return ModelBundle(url: folder, manifest: manifest)
    }

    // MARK: What the networks are asked

    /// Names that a pipeline feeds and reads.
    private func checkNames() throws {
        try require(.textEncoder, inputs: ["input_ids"], outputs: ["last_hidden_state"])
        try require(
            .unet, inputs: ["sample", "timestep", "encoder_hidden_states"], outputs: ["noise_pred"])
        try require(.vaeDecoder, inputs: ["z"], outputs: ["image"])
        try checkChunks()
    }

    private func require(_ component: Component, inputs: [String], outputs: [String]) throws {
        let files = networks[component] ?? []
        let given = Set(files.flatMap(\.interface.inputs.keys))
        let computed = Set(files.last.map { Array($0.interface.outputs.keys) } ?? [])
        if let lacking = inputs.first(where: { !given.contains($0) }) {
            throw unsupported("\(component) has no input \(lacking)")
        }
        if let lacking = outputs.first(where: { !computed.contains($0) }) {
            if component == .unet, files.count > 0, isChunk(files) {
                throw DiffusionError.missingFile(name: "UnetChunk\(files.count + 1)")
            }
            throw unsupported("\(component) has no output \(lacking)")
        }
    }

    /// A first file that reads a latent but gives no prediction goes on in another file.
    private func isChunk(_ files: [DescribedFile]) -> Bool {
        files.last.flatMap { AppleFileName($0.url.lastPathComponent)?.chunk } != nil
    }

    /// Each chunk reads inputs of the whole and what earlier chunks computed, nothing else.
    private func checkChunks() throws {
        var known: Set<String> = ["sample", "timestep", "encoder_hidden_states"]
        for file in networks[.unet] ?? [] {
            if let strange = file.interface.inputs.keys.sorted().first(where: { !known.contains($0) }) {
                throw unsupported(
                    "\(file.url.lastPathComponent) takes \(strange), which nothing here computes "
                        + "(SDXL, ControlNet or a chunk of another model)")
            }
            known.formUnion(file.interface.outputs.keys)
        }
    }

    /// Converters before April 2023 added the noise within the network; those are left out.
    private func isPlainEncoder(_ files: [DescribedFile]) -> Bool {
        files.allSatisfy { Set($0.interface.inputs.keys) == ["x"] && $0.interface.outputs["latent"] != nil }
    }

    // MARK: What they say

    private func pipeline() throws -> PipelineFacts {
        let sample = try shape("sample", of: .unet, rank: 4)
        let context = try shape("encoder_hidden_states", of: .unet, rank: 4)
        let tokens = try shape("input_ids", of: .textEncoder, rank: 2)[1]
        let latent = ImageSize(height: sample[2], width: sample[3])
        let factor = pixelsForLatentPixel(latent)
        let prediction = predictionType(contextWidth: context[1], latent: latent)
        let facts = PipelineFacts(
            family: "stable-diffusion", predictionType: prediction,
            size: ImageSize(height: latent.height * factor, width: latent.width * factor),
            latentSize: latent, latentChannels: sample[1], vaeScaleFactor: factor,
            scalingFactor: 0.18215, batch: sample[0], maxTokens: tokens,
            tokenizer: try specialTokens(maxTokens: tokens), scheduler: scheduler(prediction))
        do {
            try PipelineRules(facts: facts).check()
        } catch DiffusionError.corruptedManifest(let reason) {
            throw unsupported("the networks' sizes make no sense: \(reason)")
        }
        return facts
    }

    private func shape(_ input: String, of component: Component, rank: Int) throws -> [Int] {
        let info = (networks[component] ?? []).compactMap { $0.interface.inputs[input] }.first
        let shape = info?.shape ?? []
        guard shape.count == rank, info?.count != nil else {
            throw unsupported(
                "\(component)'s input \(input) is \(shape), not a fixed shape of rank \(rank)")
        }
        return shape
    }

    /// From the decoder's picture; 8 where its shape is not fixed or makes no sense.
    private func pixelsForLatentPixel(_ latent: ImageSize) -> Int {
        let image = networks[.vaeDecoder]?.last?.interface.outputs["image"]?.shape ?? []
        guard image.count == 4, (1...Limits.pixels).contains(image[2]), image[2] % latent.height == 0,
            image[2] / latent.height * latent.width == image[3]
        else { return 8 }
        return image[2] / latent.height
    }

    private func predictionType(contextWidth: Int, latent: ImageSize) -> String {
        contextWidth == 1024 && max(latent.height, latent.width) >= 96 ? "v_prediction" : "epsilon"
    }

    private func specialTokens(maxTokens: Int) throws -> TokenizerFacts {
        let vocabulary = try VocabularyReader(folder: folder).read()
        let (bos, eos) = (vocabulary.start, vocabulary.end)
        return TokenizerFacts(bosTokenID: bos, eosTokenID: eos, padTokenID: eos, maxTokens: maxTokens)
    }

    private func scheduler(_ prediction: String) -> JSONValue {
        .object([
            "_class_name": .string("PNDMScheduler"), "num_train_timesteps": .integer(1000),
            "beta_start": .number(0.00085), "beta_end": .number(0.012),
            "beta_schedule": .string("scaled_linear"), "prediction_type": .string(prediction),
            "steps_offset": .integer(1), "set_alpha_to_one": .bool(false),
            "skip_prk_steps": .bool(true), "clip_sample": .bool(false),
        ])
    }

    private func unsupported(_ reason: String) -> DiffusionError { .unsupportedBundle(reason: reason) }
}

/// The files as a manifest would have listed them.
extension AppleFacts {
    private func component(_ files: [DescribedFile]) -> ComponentFacts {
        func tensors(_ table: [String: TensorInfo]) -> [TensorFacts] {
            table.sorted { $0.key < $1.key }.map {
                TensorFacts(name: $0.key, shape: $0.value.shape, dtype: $0.value.dtype)
            }
        }
        var whole: [String: TensorInfo] = [:]
        var computed: Set<String> = []
        for file in files {
            whole.merge(file.interface.inputs.filter { !computed.contains($0.key) }) { first, _ in first }
            computed.formUnion(file.interface.outputs.keys)
        }
        return ComponentFacts(
            inputs: tensors(whole), outputs: tensors(files.last?.interface.outputs ?? [:]),
            files: files.map { file in
                NetworkFileFacts(
                    path: file.url.lastPathComponent, target: .coreml,
                    inputs: file.interface.inputs.keys.sorted(),
                    outputs: file.interface.outputs.keys.sorted(), weightBytes: bytes(below: file.url))
            })
    }

    /// Bytes of all files of a package: nearly all are weights.
    private func bytes(below url: URL) -> Int {
        let keys: Set<URLResourceKey> = [.fileSizeKey, .isRegularFileKey]
        let files = FileManager.default.enumerator(at: url, includingPropertiesForKeys: Array(keys))
        return (files?.allObjects ?? []).reduce(0) { sum, file in
            let values = try? (file as? URL)?.resourceValues(forKeys: keys)
            let size = values?.isRegularFile == true ? values?.fileSize ?? 0 : 0
            return min(sum + min(size, Limits.fileBytes), Limits.fileBytes)
        }
    }
}
