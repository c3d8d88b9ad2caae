import DiffusionCore
import Foundation

/// One .tflite run by LiteRT.
///
/// Its buffers are made once and used for every pass. Passes take their time on a thread of the
/// network's own; two networks compute side by side.
public actor LiteRTNetwork: Network {
    public nonisolated let interface: NetworkInterface
    /// The name of the file.
    public nonisolated let file: String

    private nonisolated let queue = SerialQueue(label: "coreml-sd.litert.network")
    private var compiled: CompiledModel?

    public nonisolated var unownedExecutor: UnownedSerialExecutor { queue.asUnownedSerialExecutor() }

    init(_ compiled: sending CompiledModel, file: String) {
        interface = compiled.model.interface
        self.file = file
        self.compiled = compiled
    }

    public func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        try Task.checkCancellation()
        guard let compiled else { throw LiteRTBackend.failed(file, "it has been unloaded") }
        try check(inputs)
        return try LiteRTBackend.reporting(file) {
            for buffer in compiled.inputs {
                guard let tensor = inputs[buffer.name] else { continue }
                do {
                    try buffer.write(tensor.values)
                } catch let error as ElementCoding.Unfit {
                    throw DiffusionError.wrongInput(
                        network: file, reason: "\(error.reason), which input \(buffer.name) needs")
                }
            }
            try compiled.run()
            let outputs = try compiled.outputs.map { ($0.name, try $0.read()) }
            return Dictionary(uniqueKeysWithValues: outputs)
        }
    }

    public func unload() async {
        compiled = nil
    }

    /// Every input is there, has its shape, and there is no other.
    private func check(_ given: [String: Tensor]) throws {
        func wrong(_ reason: String) -> DiffusionError { .wrongInput(network: file, reason: reason) }
        let declared = interface.inputs
        if let unknown = given.keys.filter({ declared[$0] == nil }).min() {
            throw wrong("no input \(unknown); it takes \(declared.keys.sorted().joined(separator: ", "))")
        }
        for (name, info) in declared.sorted(by: { $0.key < $1.key }) {
            guard let tensor = given[name] else { throw wrong("input \(name) is missing") }
            guard tensor.shape == info.shape else {
                throw wrong("input \(name) has shape \(tensor.shape), needs \(info.shape)")
            }
        }
    }
}
