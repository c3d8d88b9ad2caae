import Foundation

/// Draws soft gradients without any model, so that SwiftUI previews and tests of an app's own
/// screens run at once, on any machine.
///
/// ```swift
/// #Preview { ContentView(pipeline: .preview()) }
/// ```
public struct PreviewBackend: ModelBackend {
    public let name = "preview"
    public let target = Target.coreml
    /// Time that each run of a network takes, so that progress can be seen.
    public var pace: Duration

    public init(pace: Duration = .milliseconds(50)) { self.pace = pace }

    public func load(_ file: ModelFile) async throws -> any Network {
        try await Task.sleep(for: pace)
        return PreviewNetwork(component: file.component, pace: pace)
    }

    public func prewarm(_ file: ModelFile) async throws { try await Task.sleep(for: pace) }

    public func interface(of file: URL) async throws -> NetworkInterface {
        PreviewNetwork(component: .unet, pace: pace).interface
    }
}

/// A stand-in for one component at ``PreviewBundle``'s shapes.
struct PreviewNetwork: Network {
    let component: Component
    let pace: Duration

    var interface: NetworkInterface {
        PreviewBundle.interfaces[component] ?? NetworkInterface(inputs: [:], outputs: [:])
    }

    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        try await Task.sleep(for: pace)
        return interface.outputs.reduce(into: [:]) { outputs, entry in
            outputs[entry.key] = switch component {
            case .vaeDecoder: gradient(inputs["z"], shape: entry.value.shape)
            default: Tensor(shape: entry.value.shape)
            }
        }
    }

    func unload() async {}
}

/// A gradient between two colours that the first numbers of a latent choose.
private func gradient(_ latent: Tensor?, shape: [Int]) -> Tensor {
    let colours = (latent?.values ?? []).prefix(6).map { tanh($0) } + Array(repeating: 0, count: 6)
    let (height, width) = (shape[2], shape[3])
    var values: [Float] = []
    values.reserveCapacity(3 * height * width)
    for channel in 0..<3 {
        for y in 0..<height {
            for x in 0..<width {
                let along = Float(x + y) / Float(max(width + height - 2, 1))
                values.append(colours[channel] * (1 - along) + colours[channel + 3] * along)
            }
        }
    }
    return Tensor(shape: shape, values: values)
}

extension DiffusionPipeline {
    /// A pipeline that draws gradients at once, for SwiftUI previews; see ``PreviewBackend``.
    public static func preview(pace: Duration = .milliseconds(50)) -> DiffusionPipeline {
        DiffusionPipeline(
            bundle: PreviewBundle.bundle, backend: PreviewBackend(pace: pace),
            memoryPolicy: .allResident, tokenizer: PreviewBundle.tokenizer)
    }
}
