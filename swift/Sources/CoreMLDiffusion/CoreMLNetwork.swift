#if canImport(CoreML)
import CoreML
import DiffusionCore
import Foundation

/// One loaded model. It never leaves this actor, and its predictions run on a thread of their own.
actor CoreMLNetwork: Network {
    nonisolated let interface: NetworkInterface

    private let name: String
    private var loaded: Loaded?
    private nonisolated let executor: SerialQueue

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// A model with the arrays that carry its inputs; every prediction fills the same ones.
    private struct Loaded {
        let model: MLModel
        let inputs: [String: MLMultiArray]
        let features: MLDictionaryFeatureProvider
    }

    init(model: sending MLModel, name: String) throws {
        let interface = try NetworkInterface(model.modelDescription, file: name)
        if let input = interface.inputs.first(where: { $0.value.count == nil }) {
            throw DiffusionError.backendFailed(
                backend: "coreml", file: name,
                reason: "the shape \(input.value.shape) of \(input.key) is not fixed, or beyond \(Limits.elements) numbers")
        }
        let inputs = try interface.inputs.mapValues { try MLMultiArray(for: $0) }
        loaded = Loaded(
            model: model, inputs: inputs,
            features: try MLDictionaryFeatureProvider(
                dictionary: inputs.mapValues { MLFeatureValue(multiArray: $0) }))
        self.interface = interface
        self.name = name
        executor = SerialQueue(label: "coreml-sd.\(name)")
    }

    func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
        try Task.checkCancellation()
        guard let loaded else {
            throw DiffusionError.backendFailed(
                backend: "coreml", file: name, reason: "it was unloaded before")
        }
        for (input, array) in loaded.inputs {
            try fill(array, input, with: inputs[input])
        }
        return try withPool {
            let outputs: any MLFeatureProvider
            do {
                outputs = try loaded.model.prediction(from: loaded.features)
            } catch {
                throw failure(of: name, error)
            }
            return try tensors(of: outputs)
        }
    }

    func unload() {
        loaded = nil
    }

    private func fill(_ array: MLMultiArray, _ input: String, with tensor: Tensor?) throws {
        guard let tensor else {
            throw DiffusionError.wrongInput(network: name, reason: "input \(input) is missing")
        }
        guard tensor.shape == interface.inputs[input]?.shape else {
            throw DiffusionError.wrongInput(
                network: name,
                reason: "input \(input) has shape \(tensor.shape), not \(interface.inputs[input]?.shape ?? [])")
        }
        guard array.fill(with: tensor.values) else {
            throw DiffusionError.wrongInput(
                network: name, reason: "input \(input) holds a number that is not whole")
        }
    }

    private func tensors(of outputs: any MLFeatureProvider) throws -> [String: Tensor] {
        var tensors: [String: Tensor] = [:]
        for output in interface.outputs.keys {
            guard let tensor = outputs.featureValue(for: output)?.multiArrayValue?.tensor else {
                throw DiffusionError.backendFailed(
                    backend: "coreml", file: name, reason: "it gave no numbers for \(output)")
            }
            tensors[output] = tensor
        }
        return tensors
    }
}

/// Free at once what Objective-C objects hold until a pool drains.
private func withPool<Result>(_ work: () throws -> Result) throws -> Result {
    #if canImport(ObjectiveC)
    try autoreleasepool(invoking: work)
    #else
    try work()
    #endif
}
#endif
