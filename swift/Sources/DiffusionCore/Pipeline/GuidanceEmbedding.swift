import Foundation

extension Guidance {
    private static let longestPeriod = 10_000.0
    private static let angles = 1000.0

    /// What a denoiser that was trained with its guidance is told: `width` numbers, sines, then cosines of
    /// 1000 times the guidance less 1, at falling frequencies; an odd width ends with 0.
    ///
    /// Source: diffusers' `get_guidance_scale_embedding`; "On Distillation of Guided Diffusion Models",
    /// arXiv 2210.03142, with 1 less as latent consistency models were trained.
    ///
    /// - Precondition: a width of at least 2.
    public static func embedding(_ guidance: Float, width: Int) -> [Float] {
        precondition(width >= 2, "a guidance of \(width) numbers")
        let half = width / 2
        let waves = (0..<half).map { index in
            let falling = exp(-log(longestPeriod) * Double(index) / Double(max(half - 1, 1)))
            return (Double(guidance) - 1) * angles * falling
        }
        return waves.map { Float(sin($0)) } + waves.map { Float(cos($0)) }
            + [Float](repeating: 0, count: width % 2)
    }
}
