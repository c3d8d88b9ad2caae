/// Where img2img enters the steps of a scheduler.
public enum ImageToImageStart {
    /// The first step that is taken, as diffusers' img2img pipelines count it.
    ///
    /// - Parameters:
    ///   - steps: steps of a picture from noise alone.
    ///   - strength: from 0 (the picture stays) to 1 (nothing of it stays).
    /// - Returns: an index into the scheduler's timesteps; `steps` where the picture stays. PNDM has
    ///   one timestep more than steps, so that it takes a step even then.
    public static func startStep(steps: Int, strength: Float) -> Int {
        // As decimal digits: 50 steps at 0.7 are 35, where the nearest fp32 number would give 34.
        let strength = Double("\(strength)") ?? Double(strength)
        let taken = min(Int(Double(steps) * max(strength, 0)), steps)
        return steps - taken
    }
}
