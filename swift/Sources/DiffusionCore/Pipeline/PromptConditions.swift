/// What a prompt gives the denoiser: inputs that stay the same for all steps of a picture.
struct PromptConditions: Sendable {
    /// By name, each with as many rows as ``rows``.
    var inputs: [String: Tensor]
    /// The text of the prompt that did not fit.
    var cut: String
    /// One for the prompt, after one for the negative prompt where both are combined.
    var rows: Int
}

/// What text encoders gave: for each output its rows, states `(1, T, C)` or pooled `(1, P)`.
private typealias TextRows = [DenoiserFacts.TextOutput: [Tensor]]

/// Encoding prompts.
extension Drawing {
    /// Run every text encoder that the denoiser asks for, once.
    func encodePrompts(_ seconds: inout StageSeconds) async throws -> PromptConditions {
        let wanted = request.denoiser.textOutputs
        var outputs: TextRows = [:]
        var cut = ""
        for encoder in DenoiserFacts.textEncoders {
            let asked = wanted.filter { $0.component == encoder }
            if asked.isEmpty { continue }
            let tokenizer = try tokenizer(of: encoder)
            cut = tokenizer.frame(request.request.prompt).cut
            outputs.merge(try await encode(encoder, tokenizer, asked, &seconds)) { first, _ in first }
        }
        let rows = request.isGuided ? 2 : 1
        let inputs = try request.denoiser.conditions.mapValues { try input($0, outputs, rows) }
        return PromptConditions(inputs: inputs, cut: cut, rows: rows)
    }

    private func input(
        _ condition: DenoiserFacts.Condition, _ outputs: TextRows, _ rows: Int
    ) throws -> Tensor {
        switch condition {
        case .text(let wanted): try joined(wanted, outputs)
        case .size: repeated(sizeNumbers, rows)
        case .guidance(let width): repeated(Guidance.embedding(request.guidance, width: width), rows)
        }
    }

    /// What a denoiser is told of a whole picture: height and width before cropping, top and left of the
    /// crop, height and width.
    private var sizeNumbers: [Float] {
        let (height, width) = (Float(request.size.height), Float(request.size.width))
        return [height, width, 0, 0, height, width]
    }

    private func tokenizer(of encoder: Component) throws -> CLIPTokenizer {
        guard encoder == .textEncoder2 else { return tokenizer }
        guard let second = bundle.pipeline.tokenizer2 else {
            throw DiffusionError.corruptedManifest(reason: "lacks pipeline.tokenizer_2")
        }
        return try tokenizer.with(second)
    }

    /// What one text encoder makes of each row's prompt. An empty negative prompt is zeros where the model
    /// was trained so, and not run then.
    private func encode(
        _ component: Component, _ tokenizer: CLIPTokenizer, _ asked: Set<DenoiserFacts.TextOutput>,
        _ seconds: inout StageSeconds
    ) async throws -> TextRows {
        let negative = request.request.negativePrompt
        let isZero = negative.isEmpty && bundle.pipeline.zerosForEmptyPrompt
        let prompts = (request.isGuided && !isZero ? [negative] : []) + [request.request.prompt]
        let ids = prompts.map { tokenizer.frame($0).ids }
        var outputs = try await stage("Encode prompt", component, &seconds, \.encodePrompt) { files in
            var outputs: TextRows = [:]
            for row in ids {
                let input = Tensor(shape: [1, row.count], values: row.map(Float.init))
                let given = try await residency.run(files, ["input_ids": input])
                for each in asked {
                    outputs[each, default: []].append(try given.named(each.output, of: component))
                }
            }
            return outputs
        }
        if request.isGuided && isZero {
            outputs = outputs.mapValues { rows in [Tensor(shape: rows[0].shape)] + rows }
        }
        return outputs
    }

    /// Outputs side by side along their channels: states `(rows, C, 1, T)`, pooled `(rows, P)`.
    private func joined(_ wanted: [DenoiserFacts.TextOutput], _ outputs: TextRows) throws -> Tensor {
        let parts = wanted.map { outputs[$0] ?? [] }
        let isPooled = parts.first?.first?.shape.count == 2
        for (output, rows) in zip(wanted, parts) { try check(output, rows, isPooled: isPooled) }
        let rows = parts[0].indices.map { row in parts.map { $0[row] } }
        return isPooled ? sideBySide(rows) : channelsFirst(rows)
    }

    private func check(
        _ output: DenoiserFacts.TextOutput, _ rows: [Tensor], isPooled: Bool
    ) throws {
        let tokens = bundle.pipeline.maxTokens
        for row in rows {
            let shape = row.shape
            let fits = isPooled
                ? shape.count == 2 && shape[0] == 1
                : shape.count == 3 && shape[0] == 1 && shape[1] == tokens
            guard fits, shape == rows[0].shape else {
                throw DiffusionError.wrongInput(
                    network: output.component.rawValue,
                    reason: "gives shape \(shape) as \(output.output), not "
                        + (isPooled ? "(1, P)" : "(1, \(tokens), C)") + "; convert again")
            }
        }
    }
}

private func repeated(_ values: [Float], _ rows: Int) -> Tensor {
    Tensor(shape: [rows, values.count], values: (0..<rows).flatMap { _ in values })
}
