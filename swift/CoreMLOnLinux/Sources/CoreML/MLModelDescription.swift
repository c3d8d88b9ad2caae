import Foundation

open class MLModelDescription: NSObject {
    public let inputDescriptionsByName: [String: MLFeatureDescription]
    public let outputDescriptionsByName: [String: MLFeatureDescription]

    init(_ model: StandInModel) {
        inputDescriptionsByName = model.inputs.mapValues { MLFeatureDescription($0) }
        outputDescriptionsByName = model.outputs.mapValues { MLFeatureDescription($0.feature) }
    }
}

open class MLFeatureDescription: NSObject {
    public let multiArrayConstraint: MLMultiArrayConstraint?

    init(_ feature: StandInModel.Feature) {
        multiArrayConstraint = feature.shape.isEmpty ? nil : MLMultiArrayConstraint(feature)
    }
}

open class MLMultiArrayConstraint: NSObject {
    public let shape: [NSNumber]
    public let dataType: MLMultiArrayDataType

    init(_ feature: StandInModel.Feature) {
        shape = feature.shape.map { NSNumber(value: $0) }
        dataType = MLMultiArrayDataType(feature.type)
    }
}
