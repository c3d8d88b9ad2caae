#if canImport(CoreML)
import CoreML
import DiffusionCore
import Foundation

extension NetworkInterface {
    /// What a model says of itself.
    ///
    /// - Throws: `DiffusionError.backendFailed(backend:file:reason:)` for a feature that is no
    ///   array of fp16, fp32 or int32.
    init(_ description: MLModelDescription, file: String) throws {
        func infos(_ features: [String: MLFeatureDescription]) throws -> [String: TensorInfo] {
            try features.reduce(into: [:]) { infos, entry in
                guard let info = TensorInfo(entry.value) else {
                    throw DiffusionError.backendFailed(
                        backend: "coreml", file: file,
                        reason: "\(entry.key) is no array of fp16, fp32 or int32")
                }
                infos[entry.key] = info
            }
        }
        self.init(
            inputs: try infos(description.inputDescriptionsByName),
            outputs: try infos(description.outputDescriptionsByName))
    }
}

extension TensorInfo {
    fileprivate init?(_ feature: MLFeatureDescription) {
        guard let constraint = feature.multiArrayConstraint, let dtype = DType(constraint.dataType)
        else { return nil }
        self.init(shape: constraint.shape.map(\.intValue), dtype: dtype)
    }
}

extension DType {
    init?(_ type: MLMultiArrayDataType) {
        switch type {
        case .float16: self = .float16
        case .float32: self = .float32
        case .int32: self = .int32
        default: return nil
        }
    }

    var coreML: MLMultiArrayDataType {
        switch self {
        case .float16: .float16
        case .float32: .float32
        case .int32: .int32
        }
    }
}
#endif
