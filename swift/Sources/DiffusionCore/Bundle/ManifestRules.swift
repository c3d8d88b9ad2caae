import Foundation

/// What a manifest may say: every number in its range, before anything is reckoned or reserved with
/// it. Errors name the value by its path, such as `components.unet.inputs`.
struct ManifestRules: ManifestCheck {
    let manifest: Manifest

    /// - Throws: ``DiffusionError/corruptedManifest(reason:)``.
    func check() throws {
        try PipelineRules(facts: manifest.pipeline).check()
        try require(!manifest.components.isEmpty, "components", "is empty")
        let count = manifest.components.values.reduce(0) { $0 + $1.files.count }
        try require(count <= Limits.files, "components", "name more than \(Limits.files) files")
        try checkFiles()
        let held = filesAndFolders()
        for (name, component) in manifest.components.sorted(by: { $0.key < $1.key }) {
            try checkTensors(component.inputs, "components.\(name).inputs")
            try checkTensors(component.outputs, "components.\(name).outputs")
            try checkNetworks(component, held, "components.\(name).files")
        }
    }

    /// Paths of all files that are not empty, and of the folders that they lie in.
    private func filesAndFolders() -> Set<String> {
        var paths: Set<String> = []
        for (path, facts) in manifest.files where facts.bytes > 0 {
            var rest = path[...]
            paths.insert(path)
            while let slash = rest.lastIndex(of: "/") {
                rest = rest[..<slash]
                paths.insert(String(rest))
            }
        }
        return paths
    }

    private func checkTensors(_ tensors: [TensorFacts], _ place: String) throws {
        for tensor in tensors {
            try require(!tensor.name.isEmpty, place, "has one without a name")
            let info = TensorInfo(shape: tensor.shape, dtype: tensor.dtype)
            try require(
                info.count != nil, place,
                "has \(tensor.name) of the shape \(tensor.shape), not 1 to \(Limits.rank) lengths above 0 "
                    + "of at most \(Limits.elements) numbers together")
        }
        try require(Set(tensors.map(\.name)).count == tensors.count, place, "has two of one name")
    }

    private func checkNetworks(_ component: ComponentFacts, _ held: Set<String>, _ place: String) throws {
        try require(!component.files.isEmpty, place, "is empty")
        /// For each target the names that a file may read: the whole's inputs, and what earlier files gave.
        var known: [String: Set<String>] = [:]
        for file in component.files {
            try checkPath(file.path, place)
            try range(file.weightBytes ?? 0, 0...Limits.fileBytes, place)
            let names = known[file.target] ?? Set(component.inputs.map(\.name))
            if let strange = file.inputs.first(where: { !names.contains($0) }) {
                throw refusal(place, "has \(file.path), which reads \(strange) that nothing gives")
            }
            known[file.target] = names.union(file.outputs)
            try require(held.contains(file.path), place, "has \(file.path), which is not among the manifest's files")
        }
    }

    private func checkFiles() throws {
        try require(!manifest.files.isEmpty, "files", "is empty")
        try require(manifest.files.count <= Limits.files, "files", "are more than \(Limits.files)")
        for (path, facts) in manifest.files.sorted(by: { $0.key < $1.key }) {
            try checkPath(path, "files.\(path)")
            try range(facts.bytes, 0...Limits.fileBytes, "files.\(path).bytes")
            let isHash = facts.sha256.utf8.count == 64 && facts.sha256.utf8.allSatisfy(\.isHexDigit)
            try require(isHash, "files.\(path).sha256", "is not 64 hex digits")
        }
        for name in [VocabularyReader.vocabularyName, VocabularyReader.mergesName] {
            try require(manifest.files[name] != nil, "files", "lacks \(name)")
        }
    }

    /// A path must lead to something inside the folder.
    private func checkPath(_ path: String, _ place: String) throws {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let isInside = parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
        try require(parts.count <= Limits.nesting, place, "lies in more than \(Limits.nesting) folders")
        try require(
            isInside && !path.contains("\0") && !path.contains("\\"), place,
            "leads out of the bundle (\(path.debugDescription))")
    }
}

/// Of `pipeline`.
struct PipelineRules: ManifestCheck {
    let facts: PipelineFacts

    /// - Throws: ``DiffusionError/corruptedManifest(reason:)``.
    func check() throws {
        let types = PredictionType.allCases.map(\.rawValue)
        try require(
            types.contains(facts.predictionType), "pipeline.prediction_type",
            "is \(facts.predictionType), not one of \(types.joined(separator: ", "))")
        try range(facts.latentChannels, 1...Limits.latentChannels, "pipeline.latent_channels")
        try range(facts.vaeScaleFactor, 1...Limits.vaeScaleFactor, "pipeline.vae_scale_factor")
        try range(facts.batch, 1...Limits.batch, "pipeline.batch")
        try checkSize(facts.size, facts.latentSize, "pipeline")
        for (index, size) in facts.sizes.enumerated() {
            try checkSize(size.size, size.latentSize, "pipeline.sizes.[\(index)]")
        }
        try number(facts.scalingFactor, "pipeline.scaling_factor")
        try require(facts.scalingFactor != 0, "pipeline.scaling_factor", "is 0")
        try number(facts.shiftFactor, "pipeline.shift_factor")
        try checkTokenizer(facts.tokenizer, "pipeline.tokenizer")
        if let second = facts.tokenizer2 { try checkTokenizer(second, "pipeline.tokenizer_2") }
        try DenoiserRules(facts: facts).check()
        try checkAdvice()
        try checkPreview()
        try SchedulerRules(config: facts.scheduler).check()
    }

    private func checkSize(_ size: ImageSize, _ latent: ImageSize, _ place: String) throws {
        for (side, latentSide) in [(size.height, latent.height), (size.width, latent.width)] {
            try range(side, 1...Limits.pixels, "\(place).size")
            try range(latentSide, 1...Limits.latentPixels, "\(place).latent_size")
            try require(
                side == latentSide * facts.vaeScaleFactor, "\(place).size",
                "is not \(place).latent_size times pipeline.vae_scale_factor")
        }
        let shape = [facts.batch, facts.latentChannels, latent.height, latent.width]
        try require(
            TensorInfo(shape: shape, dtype: .float32).count != nil, "\(place).latent_size",
            "takes more than \(Limits.elements) numbers with pipeline.batch and pipeline.latent_channels")
    }

    private func checkTokenizer(_ tokenizer: TokenizerFacts, _ place: String) throws {
        try range(tokenizer.bosTokenID, 0...Limits.tokenID, "\(place).bos_token_id")
        try range(tokenizer.eosTokenID, 0...Limits.tokenID, "\(place).eos_token_id")
        try range(tokenizer.padTokenID, 0...Limits.tokenID, "\(place).pad_token_id")
        try range(tokenizer.maxTokens, 2...Limits.maxTokens, "\(place).max_tokens")
        try require(
            tokenizer.maxTokens == facts.maxTokens, "pipeline.max_tokens",
            "is \(facts.maxTokens), \(place).max_tokens \(tokenizer.maxTokens)")
        let added = tokenizer.addedTokens ?? []
        let words = "\(place).added_tokens"
        try require(added.count <= Limits.addedTokens, words, "are more than \(Limits.addedTokens)")
        for token in added {
            try range(token.id, 0...Limits.tokenID, words)
            try range(token.content.unicodeScalars.count, 1...Limits.wordCharacters, words)
        }
    }

    private func checkAdvice() throws {
        try range(facts.advice.steps ?? 1, 1...Limits.steps, "pipeline.advice.steps")
        try range(Double(facts.advice.guidance ?? 1), 0...Limits.guidance, "pipeline.advice.guidance")
    }

    private func checkPreview() throws {
        guard let preview = facts.preview else { return }
        let isFitting = preview.weights.count == facts.latentChannels
            && preview.weights.allSatisfy { $0.count == 3 }
        try require(
            isFitting, "pipeline.preview.weights", "is not three numbers for each channel of the latent")
        try require(preview.bias.count == 3, "pipeline.preview.bias", "is not three numbers")
        for weight in preview.weights.joined() { try number(weight, "pipeline.preview.weights") }
        for part in preview.bias { try number(part, "pipeline.preview.bias") }
    }

    private func number(_ value: Float, _ place: String) throws {
        try range(Double(value), -Limits.factor...Limits.factor, place)
    }
}

/// Of `pipeline.scheduler`, whichever scheduler reads it.
struct SchedulerRules: ManifestCheck {
    let config: JSONValue

    /// - Throws: ``DiffusionError/corruptedManifest(reason:)``.
    func check() throws {
        let place = "pipeline.scheduler"
        guard case .object(let table) = config else { throw refusal(place, "is no table") }
        for (key, value) in table.sorted(by: { $0.key < $1.key }) { try check(value, "\(place).\(key)") }
        switch config["_class_name"] {
        case nil, .null, .string: break
        default: throw refusal("\(place)._class_name", "is no text")
        }
        switch config["num_train_timesteps"] {
        case nil, .null: break
        case .integer(let count):
            try range(count, 1...Limits.trainTimesteps, "\(place).num_train_timesteps")
        default: throw refusal("\(place).num_train_timesteps", "is no whole number")
        }
    }

    private func check(_ value: JSONValue, _ place: String) throws {
        switch value {
        case .null, .bool, .string: break
        case .integer(let number): try range(Double(number), -Limits.factor...Limits.factor, place)
        case .number(let number): try range(number, -Limits.factor...Limits.factor, place)
        case .array(let list):
            try range(list.count, 0...Limits.trainTimesteps, place)
            for entry in list { try check(entry, place) }
        case .object(let table): for entry in table.values { try check(entry, place) }
        }
    }
}

extension UInt8 {
    fileprivate var isHexDigit: Bool { Character(Unicode.Scalar(self)).isHexDigit }
}
