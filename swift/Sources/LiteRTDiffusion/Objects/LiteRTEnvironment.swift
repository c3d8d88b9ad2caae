import DiffusionCore

/// LiteRT's environment: the accelerators that are there. Destroyed when no model needs it.
final class LiteRTEnvironment: Sendable {
    let library: LiteRTLibrary
    // A number, because a pointer is not Sendable. LiteRT only reads the environment after it is
    // made, and models are opened one at a time.
    private let address: UInt

    var pointer: LiteRTPointer? { LiteRTPointer(bitPattern: address) }

    /// - Parameters:
    ///   - accelerators: bits of ``HardwareAccelerators``.
    init(_ found: LibrarySearch.Found, accelerators: Int32) throws {
        library = found.library
        let pointer = try found.folder.withCString { folder in
            let options = [
                EnvironmentOption(EnvironmentOption.Tag.runtimeLibraryFolder, string: folder),
                EnvironmentOption(EnvironmentOption.Tag.accelerators, integer: Int64(accelerators)),
                EnvironmentOption(
                    EnvironmentOption.Tag.lowestSeverity, integer: EnvironmentOption.errorsOnly),
            ]
            return try LiteRTLibrary.made {
                found.library.createEnvironment(Int32(options.count), options, $0)
            }
        }
        address = UInt(bitPattern: pointer)
    }

    deinit { library.destroyEnvironment(pointer) }

    /// Whether LiteRT has found an accelerator of this kind.
    func has(_ accelerator: Int32) throws -> Bool {
        guard let pointer else { return false }
        return try (0..<LiteRTLibrary.count(library.getNumAccelerators, of: pointer)).contains { index in
            let each = try LiteRTLibrary.made { library.getAccelerator(pointer, index, $0) }
            var support: Int32 = 0
            try LiteRTLibrary.check(library.getAcceleratorHardwareSupport(each, &support))
            return support & accelerator != 0
        }
    }
}
