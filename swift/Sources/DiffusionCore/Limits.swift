/// What a file from elsewhere may ask for: one table for Swift, Python (`coreml_sd/files/limits.py`) and
/// Kotlin.
///
/// Largest values, both ends included; sizes in bytes unless said otherwise. Every number is checked
/// where it is read, before anything is reckoned or reserved with it. All are far beyond what
/// today's models need.
public enum Limits {
    // A picture and its latent.
    /// Height or width of a picture.
    public static let pixels = 8192
    /// Height or width of a latent.
    public static let latentPixels = 4096
    public static let latentChannels = 128
    public static let vaeScaleFactor = 64
    public static let batch = 2
    /// Magnitude of `scaling_factor` and `shift_factor`, and of a scheduler's numbers.
    public static let factor = 1e6

    // A prompt.
    public static let maxTokens = 1024
    public static let tokenID = 1_000_000
    public static let addedTokens = 10_000
    /// Of an added word.
    public static let wordCharacters = 1000

    // Denoising.
    public static let steps = 1000
    public static let trainTimesteps = 10_000
    public static let guidance = 100.0
    /// Denoisers for few steps in one model.
    public static let fewSteps = 8

    // Tensors and networks.
    public static let rank = 8
    /// Of one input, output or weight.
    public static let elements = 1 << 28
    /// Of what a network computes on the way: attention that is not cut into slices.
    public static let intermediateElements = 1 << 31
    /// That a config counts: blocks, layers of each, heads.
    public static let layers = 1000
    /// Channels, features and rows of a table that a config names.
    public static let width = 1 << 17

    // Files.
    /// In a bundle.
    public static let files = 10_000
    public static let fileBytes = 1 << 40
    /// JSON, vocabularies and other text.
    public static let textBytes = 1 << 26
    /// A program without its weights.
    public static let programBytes = 1 << 30
    /// Lists and tables inside one another.
    public static let nesting = 64
}

extension TensorInfo {
    /// How many numbers it holds; nil where the shape is not fixed or asks for more than ``Limits``
    /// allow.
    public var count: Int? {
        guard (1...Limits.rank).contains(shape.count) else { return nil }
        var product = 1
        for length in shape {
            let (longer, overflow) = product.multipliedReportingOverflow(by: length)
            guard length > 0, !overflow, longer <= Limits.elements else { return nil }
            product = longer
        }
        return product
    }
}
