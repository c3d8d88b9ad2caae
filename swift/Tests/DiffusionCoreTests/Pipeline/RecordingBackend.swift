import Foundation

@testable import DiffusionCore

/// Networks of given shapes that write down what they are given.
actor RecordingBackend: ModelBackend {
    nonisolated let name = "recording"
    nonisolated let target = Target.coreml
    nonisolated let interfaces: [Component: NetworkInterface]
    private(set) var runs: [(component: Component, inputs: [String: Tensor])] = []

    init(_ interfaces: [Component: NetworkInterface]) { self.interfaces = interfaces }

    func load(_ file: ModelFile) async throws -> any Network {
        RecordingNetwork(file: file, interface: interfaces[file.component]!, backend: self)
    }

    func prewarm(_ file: ModelFile) async throws {}

    func interface(of file: URL) async throws -> NetworkInterface {
        NetworkInterface(inputs: [:], outputs: [:])
    }

    fileprivate func note(_ component: Component, _ inputs: [String: Tensor]) {
        runs.append((component, inputs))
    }

    func inputs(_ name: String, of component: Component) -> [Tensor] {
        runs.filter { $0.component == component }.compactMap { $0.inputs[name] }
    }

    /// Draws with it from a bundle whose facts are the preview's with changes.
    nonisolated func pipeline(_ change: (inout PipelineFacts) -> Void) -> DiffusionPipeline {
        var manifest = PreviewBundle.bundle.manifest
        change(&manifest.pipeline)
        manifest.components = interfaces.reduce(into: [:]) { table, entry in
            let file = NetworkFileFacts(
                path: entry.key.rawValue, target: .coreml,
                inputs: entry.value.inputs.keys.sorted(), outputs: entry.value.outputs.keys.sorted(),
                weightBytes: 1)
            table[entry.key.rawValue] = ComponentFacts(inputs: [], outputs: [], files: [file])
        }
        return DiffusionPipeline(
            bundle: ModelBundle(url: URL(fileURLWithPath: "/recording"), manifest: manifest),
            backend: self, memoryPolicy: .stageByStage, tokenizer: PreviewBundle.tokenizer)
    }
}

private struct RecordingNetwork: Network {
    let file: ModelFile
    let interface: NetworkInterface
    let backend: RecordingBackend

    /// Encoders answer with the prompt's second id, a thousand more for the second encoder, and
    /// the pooled output is the negative of that.
    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        await backend.note(file.component, inputs)
        var value: Float = 0
        if let ids = inputs["input_ids"] {
            value = ids.values[1] + (file.component == .textEncoder2 ? 1000 : 0)
        }
        return interface.outputs.reduce(into: [:]) { outputs, output in
            let sign: Float = output.key == "pooled_outputs" ? -1 : 1
            outputs[output.key] = Tensor(shape: output.value.shape, repeating: sign * value)
        }
    }

    func unload() async {}
}
