public class MLModel { public init() {} }
