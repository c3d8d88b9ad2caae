import Foundation

open class MLModel: NSObject {
    public let modelDescription: MLModelDescription
    public let configuration: MLModelConfiguration

    private let url: URL
    private let model: StandInModel

    init(_ model: StandInModel, url: URL, configuration: MLModelConfiguration) {
        self.model = model
        self.url = url
        self.configuration = configuration
        modelDescription = MLModelDescription(model)
    }

    deinit { StandInLog.shared.add(.free(url)) }

    public class func compileModel(at url: URL) async throws -> URL {
        StandInLog.shared.add(.compile(url))
        let model = try StandInModel.read(url)
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("stand-in-" + UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let compiled = folder.appendingPathComponent("any.mlmodelc")
        if model.failure == .compile {
            // Half a model is left behind, as by a process that was killed.
            try FileManager.default.createDirectory(at: compiled, withIntermediateDirectories: true)
            throw StandInError(errorDescription: "compiler error:\nunknown op")
        }
        try await Task.sleep(for: .seconds(model.compileSeconds))
        try FileManager.default.copyItem(at: url, to: compiled)
        return compiled
    }

    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel {
        StandInLog.shared.add(.load(url, configuration.recorded))
        let model = try StandInModel.read(url)
        if model.failure == .load { throw StandInError(errorDescription: "no plan\nfor this device") }
        return MLModel(model, url: url, configuration: configuration)
    }

    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        let arrays = input.featureNames.reduce(into: [:]) { arrays, name in
            arrays[name] = input.featureValue(for: name)?.multiArrayValue
        }
        StandInLog.shared.add(.predict(url, arrays.mapValues { UInt(bitPattern: $0.dataPointer) }))
        if model.failure == .predict { throw StandInError(errorDescription: "evaluation\nfailed") }
        let outputs = try model.outputs.mapValues { output in
            guard let source = arrays[output.input] else {
                throw StandInError(errorDescription: "\(output.input) is missing")
            }
            let result = MLMultiArray(output)
            let scalars = source.scalars
            result.scalars = (0..<output.feature.shape.reduce(1, *)).map {
                output.scale * scalars[$0 % scalars.count] + output.offset
            }
            return result
        }
        return try MLDictionaryFeatureProvider(dictionary: outputs)
    }

    /// Declared as in Apple's interface, so that the same overload is picked; never to be called.
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        throw StandInError(errorDescription: "the stand-in predicts synchronously only")
    }
}

open class MLPredictionOptions: NSObject {
    public override init() {}
}
