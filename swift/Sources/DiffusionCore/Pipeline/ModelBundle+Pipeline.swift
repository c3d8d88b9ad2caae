/// What a pipeline asks of a bundle.
extension ModelBundle {
    /// Every file for a target, in the order in which a picture needs the components.
    ///
    /// - Throws: ``DiffusionError/missingTarget(_:held:)``.
    public func allFiles(for target: Target) throws -> [ModelFile] {
        try components.flatMap { try files(of: $0, for: target) }
    }
}
