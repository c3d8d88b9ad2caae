/// What a prompt gives the UNet: inputs that stay the same for all steps of a picture.
struct PromptConditions: Sendable {
    /// By name, each with as many rows as ``rows``.
    var inputs: [String: Tensor]
    /// The text of the prompt that did not fit.
    var cut: String
    /// One for the prompt, after one for the negative prompt where guidance is on.
    var rows: Int
}

/// Encoding prompts.
extension Drawing {
    /// Run every text encoder of the model.
    func encodePrompts(_ seconds: inout StageSeconds) async throws -> PromptConditions {
        guard let second = bundle.pipeline.tokenizer2 else {
            let only = try await encode(
                .textEncoder, tokenizer, states: "last_hidden_state", pooled: nil, &seconds)
            return PromptConditions(
                inputs: ["encoder_hidden_states": try context([only])], cut: only.cut,
                rows: only.states.count)
        }
        let first = try await encode(
            .textEncoder, tokenizer, states: "hidden_embeds", pooled: nil, &seconds)
        let last = try await encode(
            .textEncoder2, try tokenizer.with(second), states: "hidden_embeds",
            pooled: "pooled_outputs", &seconds)
        let rows = last.states.count
        return PromptConditions(
            inputs: [
                "encoder_hidden_states": try context([first, last]),
                "text_embeds": try stacked(last.pooled),
                "time_ids": try stacked(Array(repeating: timeIDs, count: rows)),
            ], cut: last.cut, rows: rows)
    }

    /// The sizes that the UNet of Stable Diffusion XL is told for a whole picture, `(1, 6)`: height
    /// and width before cropping, top and left of the crop, height and width.
    private var timeIDs: Tensor {
        let (height, width) = (Float(request.size.height), Float(request.size.width))
        return Tensor(shape: [1, 6], values: [height, width, 0, 0, height, width])
    }

    /// What one text encoder makes of each row's prompt: states `(1, T, C)` and, where asked for,
    /// the pooled output `(1, P)`.
    private struct Encoding: Sendable {
        var component: Component
        var states: [Tensor] = []
        var pooled: [Tensor] = []
        var cut = ""
    }

    private func encode(
        _ component: Component, _ tokenizer: CLIPTokenizer, states: String, pooled: String?,
        _ seconds: inout StageSeconds
    ) async throws -> Encoding {
        let prompt = tokenizer.frame(request.request.prompt)
        let negative = request.request.negativePrompt
        let isZero = negative.isEmpty && bundle.pipeline.zerosForEmptyPrompt
        let ids = (request.isGuided && !isZero ? [tokenizer.frame(negative).ids] : []) + [prompt.ids]
        var encoding = try await stage("Encode prompt", component, &seconds, \.encodePrompt) { files in
            var encoding = Encoding(component: component, cut: prompt.cut)
            for row in ids {
                let input = Tensor(shape: [1, row.count], values: row.map(Float.init))
                let output = try await residency.run(files, ["input_ids": input])
                encoding.states.append(try output.named(states, of: component))
                if let pooled { encoding.pooled.append(try output.named(pooled, of: component)) }
            }
            return encoding
        }
        if request.isGuided && isZero {
            encoding.states.insert(Tensor(shape: encoding.states[0].shape), at: 0)
            if let pooled = encoding.pooled.first {
                encoding.pooled.insert(Tensor(shape: pooled.shape), at: 0)
            }
        }
        return encoding
    }

    /// Embeddings `(rows, C, 1, T)`.
    private func context(_ encodings: [Encoding]) throws -> Tensor {
        let tokens = bundle.pipeline.maxTokens
        for encoding in encodings {
            for states in encoding.states
            where states.shape.count != 3 || states.shape[0] != 1 || states.shape[1] != tokens {
                throw DiffusionError.wrongInput(
                    network: encoding.component.rawValue,
                    reason: "gives shape \(states.shape), not (1, \(tokens), C); convert again")
            }
        }
        return channelsFirst(encodings[0].states.indices.map { row in encodings.map { $0.states[row] } })
    }
}

/// Tensors `(1, ...)` of one shape as one of as many rows.
private func stacked(_ rows: [Tensor]) throws -> Tensor {
    let shape = rows[0].shape
    guard shape.first == 1, rows.allSatisfy({ $0.shape == shape }) else {
        throw DiffusionError.wrongInput(
            network: Component.textEncoder2.rawValue, reason: "gives shape \(shape), not one row; convert again")
    }
    return Tensor(shape: [rows.count] + shape.dropFirst(), values: rows.flatMap(\.values))
}
