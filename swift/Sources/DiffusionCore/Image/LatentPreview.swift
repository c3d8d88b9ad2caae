/// A latent as a small, rough picture: a linear map from its channels to red, green and blue.
///
/// A thousand times quicker than decoding, and good enough to see what a picture becomes.
public struct LatentPreview: Sendable, Hashable {
    /// For each channel of the latent its part of red, green and blue; -1 to 1 in sum.
    public let weights: [[Float]]
    /// Red, green and blue of a latent of zeros.
    public let bias: [Float]

    /// For Stable Diffusion 1.x, where a bundle says nothing: the factors published in
    /// https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204/2
    public static let stableDiffusion = LatentPreview(
        weights: [
            [0.298, 0.207, 0.208],
            [0.187, 0.286, 0.173],
            [-0.158, 0.189, 0.264],
            [-0.184, -0.271, -0.473],
        ],
        bias: [0, 0, 0])

    /// What the manifest says, else ``stableDiffusion`` for a latent of four channels; nil where
    /// neither fits the latent.
    public init?(_ pipeline: PipelineFacts) {
        guard let facts = pipeline.preview else {
            guard pipeline.latentChannels == Self.stableDiffusion.weights.count else { return nil }
            self = .stableDiffusion
            return
        }
        guard facts.weights.count == pipeline.latentChannels, facts.bias.count == 3,
            facts.weights.allSatisfy({ $0.count == 3 })
        else { return nil }
        self.init(weights: facts.weights, bias: facts.bias)
    }

    private init(weights: [[Float]], bias: [Float]) {
        self.weights = weights
        self.bias = bias
    }

    /// The picture of a latent `(1, C, h, w)` as the UNet sees it: a pixel for each of its places.
    ///
    /// - Precondition: the latent has as many channels as ``weights``.
    public func picture(of latent: Tensor) -> Picture {
        precondition(
            latent.shape.count == 4 && latent.shape[0] == 1 && latent.shape[1] == weights.count,
            "a latent of shape \(latent.shape) for \(weights.count) channels")
        let size = ImageSize(height: latent.shape[2], width: latent.shape[3])
        let plane = size.height * size.width
        var rgb = [UInt8](repeating: 0, count: 3 * plane)
        for pixel in 0..<plane {
            for color in 0..<3 {
                var value = bias[color]
                for channel in weights.indices {
                    value += weights[channel][color] * latent.values[channel * plane + pixel]
                }
                // What is no number becomes black.
                let inside = value > -1 ? min(value, 1) : -1
                rgb[3 * pixel + color] = UInt8(((inside + 1) * 127.5).rounded(.toNearestOrEven))
            }
        }
        return Picture(size: size, rgb: rgb)
    }
}
