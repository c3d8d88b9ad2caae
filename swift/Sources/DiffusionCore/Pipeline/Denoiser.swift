/// The denoising loop: run the denoiser, combine its rows with guidance in fp32, let the scheduler step.
struct Denoiser: Sendable {
    /// A latent `(1, C, h, w)` and the step that it is noised for.
    struct Start: Sendable {
        var latent: Tensor
        var step: Int
    }

    let component: Component
    let files: [ModelFile]
    let residency: Residency
    /// Rows that it takes at once.
    let batch: Int
    let guidance: Float
    let conditions: PromptConditions

    /// The latent `(1, C, h, w)` after the last step.
    ///
    /// - Parameter onStep: steps done, steps in all, the latent so far.
    func run(
        _ start: Start, _ scheduler: any Scheduler, _ random: inout any RandomSource,
        onStep: (Int, Int, Tensor) -> Void
    ) async throws -> Tensor {
        var scheduler = scheduler
        var latent = start.latent
        let count = scheduler.timesteps.count - start.step
        for step in start.step..<scheduler.timesteps.count {
            try Task.checkCancellation()
            let rows = try await predictions(
                for: scaled(latent.values, by: scheduler.inputScale(step: step)),
                shape: latent.shape, timestep: scheduler.timesteps[step])
            let prediction = rows.count == 1
                ? rows[0] : Guidance.combine(unconditional: rows[0], conditional: rows[1], scale: guidance)
            latent.values = scheduler.step(latent.values, prediction: prediction, step: step) {
                random.normal($0)
            }
            onStep(step - start.step + 1, count, latent)
        }
        return latent
    }

    /// The denoiser's output for each row of the conditions, in as many runs as its batch asks for.
    private func predictions(
        for sample: [Float], shape: [Int], timestep: Float
    ) async throws -> [[Float]] {
        let rows = conditions.rows
        var found: [[Float]] = []
        for begin in stride(from: 0, to: rows, by: batch) {
            let taken = (0..<batch).map { min(begin + $0, rows - 1) }
            var inputs = conditions.inputs.mapValues { $0.rows(taken) }
            let whole = [batch] + shape.dropFirst()
            inputs["sample"] = Tensor(shape: whole, values: taken.flatMap { _ in sample })
            inputs["timestep"] = Tensor(shape: [batch], repeating: timestep)
            let output = try await residency.run(files, inputs).named(
                "noise_pred", of: component, shape: whole)
            for row in 0..<min(batch, rows - begin) {
                found.append(Array(output.values[row * sample.count..<(row + 1) * sample.count]))
            }
        }
        return found
    }
}

private func scaled(_ values: [Float], by scale: Float) -> [Float] {
    scale == 1 ? values : values.map { $0 * scale }
}
