/// Which policy suits a bundle on a device.
///
/// The rule: the first of ``allCases`` whose peak fits into 70 % of the memory that is available,
/// else the last. The peak is the weights that are resident at once and an allowance for
/// activations. The other 30 % are for the app, the runtime's own needs, and for what else happens
/// on the device while a picture is drawn.
extension MemoryPolicy {
    /// Per cent of the available memory that a pipeline may fill.
    static let share = 70

    /// The policy for a bundle.
    ///
    /// - Parameter available: bytes that may be used; see ``AvailableMemory``.
    /// - Throws: ``DiffusionError/missingTarget(_:held:)``.
    public static func suited(
        to bundle: ModelBundle, target: Target, available: Int = AvailableMemory.bytes
    ) throws -> MemoryPolicy {
        suited(
            residentBytes: try bundle.residentBytes(for: target),
            activationBytes: bundle.activationBytes, available: available)
    }

    /// The policy for numbers of bytes.
    ///
    /// - Parameters:
    ///   - residentBytes: of each file of each component, once it is loaded.
    ///   - activationBytes: what running takes beside them.
    public static func suited(
        residentBytes: [[Int]], activationBytes: Int, available: Int
    ) -> MemoryPolicy {
        let usable = Int((Double(max(0, available)) * Double(share) / 100).rounded(.down))
        return allCases.first { policy in
            policy.peakBytes(residentBytes: residentBytes, activationBytes: activationBytes) <= usable
        } ?? .chunkByChunk
    }

    /// The most bytes in use at any time.
    public func peakBytes(residentBytes: [[Int]], activationBytes: Int) -> Int {
        let components = residentBytes.map { $0.reduce(0, +) }
        let weights =
            switch self {
            case .allResident: components.reduce(0, +)
            case .stageByStage: components.max() ?? 0
            case .chunkByChunk: residentBytes.joined().max() ?? 0
            }
        return weights + activationBytes
    }
}

extension ModelBundle {
    /// Bytes of each file of each component for a target, once it is loaded.
    ///
    /// Core ML keeps weights as they are stored. LiteRT's kernels for the CPU keep copies of their
    /// own, twice the size of an fp16 file (`docs/benchmarks.md`: 3.7 GB for 1.7 GB); the pages of
    /// the mapped file come on top, but the system takes them back when it needs them.
    func residentBytes(for target: Target) throws -> [[Int]] {
        let factor = target == .tflite ? 2 : 1
        return try components.map { component in
            try files(of: component, for: target).map { $0.weightBytes * factor }
        }
    }

    /// An allowance for activations: 64 MiB, and 2 KiB for each pixel of the largest picture, which
    /// is two maps of 256 channels in fp32, as the last level of SD's VAE decoder has them.
    /// 576 MiB at 512x512. Not measured on a device.
    var activationBytes: Int {
        let pixels = sizes.map { $0.height * $0.width }.max() ?? 0
        return (64 << 20) + pixels * 2048
    }
}
