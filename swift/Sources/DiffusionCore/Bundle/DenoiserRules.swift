/// Of `pipeline.denoiser` and `pipeline.few_steps`, and of the text encoders that they ask for.
struct DenoiserRules: ManifestCheck {
    let facts: PipelineFacts

    /// - Throws: ``DiffusionError/corruptedManifest(reason:)``.
    func check() throws {
        try check(facts.denoiser, "pipeline.denoiser")
        guard let fewSteps = facts.fewSteps else { return }
        try range(fewSteps.count, 1...Limits.fewSteps, "pipeline.few_steps")
        var before = 0
        for (number, few) in fewSteps.enumerated() {
            let place = "pipeline.few_steps[\(number)]"
            try range(few.steps, 1...Limits.steps, "\(place).steps")
            try require(few.steps > before, "\(place).steps", "is \(few.steps), after \(before)")
            try check(few.denoiser, "\(place).denoiser")
            before = few.steps
        }
    }

    private func check(_ denoiser: DenoiserFacts, _ place: String) throws {
        try checkName(denoiser.component.rawValue, "\(place).component")
        try require(!denoiser.conditions.isEmpty, "\(place).conditions", "is empty")
        for (name, condition) in denoiser.conditions.sorted(by: { $0.key < $1.key }) {
            try check(condition, "\(place).conditions.\(name)")
        }
    }

    private func check(_ condition: DenoiserFacts.Condition, _ place: String) throws {
        switch condition {
        case .size: break
        case .guidance(let width): try range(width, 2...Limits.width, "\(place).width")
        case .text(let outputs):
            let encoders = DenoiserFacts.textEncoders
            try range(outputs.count, 1...encoders.count, "\(place).outputs")
            for output in outputs {
                let name = output.component.rawValue
                try require(
                    encoders.contains(output.component), "\(place).outputs.component",
                    "is \(name), not one of \(encoders.map(\.rawValue).joined(separator: ", "))")
                try checkName(output.output, "\(place).outputs.output")
                try require(
                    output.component != .textEncoder2 || facts.tokenizer2 != nil, place,
                    "asks for \(name) without pipeline.tokenizer_2")
            }
        }
    }

    private func checkName(_ name: String, _ place: String) throws {
        try range(name.unicodeScalars.count, 1...Limits.wordCharacters, place)
    }
}
