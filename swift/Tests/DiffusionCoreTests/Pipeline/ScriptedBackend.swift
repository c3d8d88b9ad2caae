import Foundation

@testable import DiffusionCore

/// A backend that computes simple sums, writes down what is asked of it, and fails when told to.
actor ScriptedBackend: ModelBackend {
    nonisolated let name = "scripted"
    nonisolated let target = Target.coreml
    /// Runs before this one succeed; it fails.
    private var failingRun: Int?
    private var answersNaN = false
    private var slow = false

    private(set) var loads: [String] = []
    private(set) var runs: [String] = []
    private(set) var prewarmed: [String] = []
    private(set) var resident: Set<String> = []
    /// The most files that were loaded at one time.
    private(set) var mostResident = 0
    private(set) var mostComponents = 0

    init(failingRun: Int? = nil, answersNaN: Bool = false, slow: Bool = false) {
        self.failingRun = failingRun
        self.answersNaN = answersNaN
        self.slow = slow
    }

    func load(_ file: ModelFile) async throws -> any Network {
        let name = file.url.lastPathComponent
        loads.append(name)
        resident.insert(name)
        mostResident = max(mostResident, resident.count)
        mostComponents = max(mostComponents, Set(resident.map { $0.prefix { !$0.isNumber } }).count)
        return ScriptedNetwork(file: file, backend: self)
    }

    func prewarm(_ file: ModelFile) async throws { prewarmed.append(file.url.lastPathComponent) }

    func interface(of file: URL) async throws -> NetworkInterface {
        NetworkInterface(inputs: [:], outputs: [:])
    }

    fileprivate func unloaded(_ name: String) { resident.remove(name) }

    fileprivate func begin(_ name: String) async throws -> Bool {
        runs.append(name)
        if slow { try? await Task.sleep(for: .milliseconds(5)) }
        if runs.count == failingRun {
            failingRun = nil
            throw DiffusionError.backendFailed(backend: self.name, file: name, reason: "told to fail")
        }
        return answersNaN
    }
}

/// One file: each output depends on all inputs, in the same way for one row as for many.
struct ScriptedNetwork: Network {
    let file: ModelFile
    let backend: ScriptedBackend

    var interface: NetworkInterface { ScriptedBundle.interface(of: file) }

    func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        let isBad = try await backend.begin(file.url.lastPathComponent)
        guard Set(inputs.keys) == Set(file.inputs) else {
            throw DiffusionError.wrongInput(
                network: file.url.lastPathComponent, reason: "takes \(file.inputs), got \(inputs.keys.sorted())")
        }
        for (name, tensor) in inputs where tensor.shape != interface.inputs[name]?.shape {
            throw DiffusionError.wrongInput(
                network: file.url.lastPathComponent, reason: "\(name) has shape \(tensor.shape)")
        }
        // In one order: another order of a dictionary rounds the sum otherwise.
        let tensors = inputs.sorted { $0.key < $1.key }.map(\.value)
        return interface.outputs.mapValues { info in
            let rows = info.shape[0]
            var output = Tensor(shape: info.shape)
            let width = output.values.count / rows
            for row in 0..<rows {
                let sum = tensors.map { Self.mean($0, row: min(row, $0.shape[0] - 1)) }.reduce(0, +)
                for index in 0..<width {
                    output.values[row * width + index] = isBad ? .nan : sin(sum * 7 + Float(index))
                }
            }
            return output
        }
    }

    func unload() async { await backend.unloaded(file.url.lastPathComponent) }

    private static func mean(_ tensor: Tensor, row: Int) -> Float {
        let width = tensor.values.count / tensor.shape[0]
        var sum: Float = 0
        for index in 0..<width { sum += tensor.values[row * width + index] * Float(index % 7 + 1) }
        return sum / Float(width)
    }
}

/// A bundle for ``ScriptedBackend``: a UNet in any number of chunks, at any batch.
enum ScriptedBundle {
    static func make(chunks: Int = 1, batch: Int = 2) -> ModelBundle {
        var manifest = PreviewBundle.bundle.manifest
        manifest.pipeline.batch = batch
        let latent = [batch, 4, 8, 8]
        manifest.components["unet"] = ComponentFacts(
            inputs: [
                TensorFacts(name: "sample", shape: latent, dtype: .float32),
                TensorFacts(name: "timestep", shape: [batch], dtype: .float32),
                TensorFacts(name: "encoder_hidden_states", shape: [batch, 8, 1, 16], dtype: .float32),
            ],
            outputs: [TensorFacts(name: "noise_pred", shape: latent, dtype: .float32)],
            files: (1...chunks).map { chunk in
                NetworkFileFacts(
                    path: "unet\(chunk)", target: .coreml,
                    inputs: (chunk == 1 ? ["sample", "timestep"] : ["seam\(chunk - 1)"])
                        + ["encoder_hidden_states"],
                    outputs: chunk == chunks ? ["noise_pred"] : ["seam\(chunk)"], weightBytes: 100)
            })
        return ModelBundle(url: URL(fileURLWithPath: "/scripted/batch\(batch)"), manifest: manifest)
    }

    static func pipeline(
        _ backend: any ModelBackend, chunks: Int = 1, batch: Int = 2,
        policy: MemoryPolicy = .allResident
    ) throws -> DiffusionPipeline {
        let bundle = make(chunks: chunks, batch: batch)
        return DiffusionPipeline(
            bundle: bundle, backend: backend, memoryPolicy: policy, tokenizer: PreviewBundle.tokenizer)
    }

    static func interface(of file: ModelFile) -> NetworkInterface {
        var known = PreviewBundle.interfaces[file.component] ?? NetworkInterface(inputs: [:], outputs: [:])
        guard file.component == .unet else { return known }
        let batch = file.url.deletingLastPathComponent().lastPathComponent == "batch1" ? 1 : 2
        let latent = TensorInfo(shape: [batch, 4, 8, 8], dtype: .float32)
        known.inputs["sample"] = latent
        known.inputs["timestep"]?.shape = [batch]
        known.inputs["encoder_hidden_states"]?.shape = [batch, 8, 1, 16]
        func pick(_ names: [String]) -> [String: TensorInfo] {
            names.reduce(into: [:]) { $0[$1] = known.inputs[$1] ?? latent }
        }
        return NetworkInterface(inputs: pick(file.inputs), outputs: pick(file.outputs))
    }
}
