/// Normal noise, number for number as a library of the Python world draws it for the same seed.
public protocol RandomSource: Sendable {
    /// The next `count` numbers, as one call of that library (`torch.randn(count)`) gives them.
    mutating func normal(_ count: Int) -> [Float]
}

/// Whose noise a seed stands for.
public enum RandomSourceName: String, Sendable, Hashable, Codable, CaseIterable {
    /// `torch.randn` on the CPU, what diffusers pipelines and `coreml-sd generate` use.
    case torch
    /// `numpy.random.RandomState.standard_normal`, what apple/ml-stable-diffusion uses.
    case numpy
    /// `torch.randn` on CUDA (Philox), what most web interfaces use.
    case cuda
}

extension RandomSourceName {
    /// A source at its beginning.
    public func source(seed: UInt32) -> any RandomSource {
        switch self {
        case .torch: TorchRandomSource(seed: seed)
        case .numpy: NumPyRandomSource(seed: seed)
        case .cuda: CUDARandomSource(seed: seed)
        }
    }
}

extension [Float] {
    /// As many numbers, which `fill` writes.
    ///
    /// - Precondition: `count` is not negative.
    init(normal count: Int, _ fill: (UnsafeMutableBufferPointer<Float>) -> Void) {
        precondition(count >= 0, "\(count) numbers asked for")
        self.init(unsafeUninitializedCapacity: count) { numbers, filled in
            fill(UnsafeMutableBufferPointer(rebasing: numbers[..<count]))
            filled = count
        }
    }
}
