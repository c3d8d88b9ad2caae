import Foundation

public protocol MLFeatureProvider: AnyObject {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

open class MLFeatureValue: NSObject {
    public let multiArrayValue: MLMultiArray?

    public convenience init(multiArray value: MLMultiArray) { self.init(value) }

    private init(_ value: MLMultiArray) { multiArrayValue = value }
}

open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    public let dictionary: [String: MLFeatureValue]

    /// Arrays and feature values, as Core ML takes them.
    public init(dictionary: [String: Any]) throws {
        self.dictionary = try dictionary.mapValues { value in
            if let array = value as? MLMultiArray { return MLFeatureValue(multiArray: array) }
            guard let value = value as? MLFeatureValue else {
                throw StandInError(errorDescription: "\(value) is no feature")
            }
            return value
        }
    }

    public var featureNames: Set<String> { Set(dictionary.keys) }

    public func featureValue(for featureName: String) -> MLFeatureValue? { dictionary[featureName] }
}
