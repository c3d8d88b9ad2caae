/// How the rules of a manifest refuse a value: by its path, such as `components.unet.inputs`.
protocol ManifestCheck {}

extension ManifestCheck {
    func require(_ condition: Bool, _ place: String, _ problem: @autoclosure () -> String) throws {
        guard condition else { throw refusal(place, problem()) }
    }

    /// Also where it is not a number.
    func range<Value: Comparable>(_ value: Value, _ allowed: ClosedRange<Value>, _ place: String) throws {
        try require(
            allowed.contains(value), place,
            "is or has \(value), not between \(allowed.lowerBound) and \(allowed.upperBound)")
    }

    func refusal(_ place: String, _ problem: String) -> DiffusionError {
        .corruptedManifest(reason: "\(place) \(problem)")
    }
}
