import DiffusionCore
import Foundation

/// Runs .tflite files by LiteRT's C library, which is loaded while the program runs.
///
/// The library is not part of this package. It is taken from the place given, else from the path in
/// the environment variable `LITERT_LIBRARY`, else the app's own (linked, in its Frameworks folder,
/// or beside the executable), else from where the system's loader finds `libLiteRt`.
public struct LiteRTBackend: ModelBackend {
    static let name = "litert"

    public let accelerator: LiteRTAccelerator
    private let environment: LiteRTEnvironment

    // LiteRT does not say that models can be opened at the same time.
    private static let opening = SerialQueue(label: "coreml-sd.litert.open")

    public var name: String { Self.name }
    public var target: Target { .tflite }

    /// - Parameters:
    ///   - library: `libLiteRt.so` or `.dylib`, of version 2.3.
    ///   - accelerator: what to compute on.
    /// - Throws: ``DiffusionError/backendUnavailable(backend:reason:remedy:)`` where the library is
    ///   missing or of another version, or has no accelerator for the GPU.
    public init(library: URL? = nil, accelerator: LiteRTAccelerator = .cpu()) throws {
        if case .cpu(let threads?) = accelerator, threads < 1 {
            throw DiffusionError.invalidRequest(reason: "\(threads) threads for LiteRT; give 1 or more")
        }
        self.accelerator = accelerator
        environment = try Self.environment(LibrarySearch.find(explicit: library), accelerator)
    }

    /// - Throws: ``DiffusionError``: the file is missing or damaged, or LiteRT or its accelerator
    ///   refuses it; `CancellationError`.
    public func load(_ file: ModelFile) async throws -> any Network {
        try await network(file)
    }

    /// On the GPU, drivers keep what they compile; on the CPU there is nothing to keep, and only the
    /// description of the file is read.
    public func prewarm(_ file: ModelFile) async throws {
        if accelerator.isGPU {
            await (try network(file)).unload()
        } else {
            _ = try await interface(of: file.url)
        }
    }

    public func interface(of file: URL) async throws -> NetworkInterface {
        try Task.checkCancellation()
        return try await Self.opening.result { [environment] in
            try Self.reporting(file.lastPathComponent) {
                try LiteRTModel(file, in: environment).interface
            }
        }
    }

    private func network(_ file: ModelFile) async throws -> LiteRTNetwork {
        try Task.checkCancellation()
        let network = try await Self.opening.result { [environment, accelerator] in
            try Self.opened(file, in: environment, accelerator: accelerator)
        }
        try Task.checkCancellation()
        return network
    }

    private static func opened(
        _ file: ModelFile, in environment: LiteRTEnvironment, accelerator: LiteRTAccelerator
    ) throws -> LiteRTNetwork {
        let name = file.url.lastPathComponent
        let compiled = try reporting(name) {
            let model = try LiteRTModel(file.url, in: environment)
            try check(model, against: file)
            do {
                return try CompiledModel(model, accelerator: accelerator)
            } catch let failure as LiteRTFailure where accelerator.isGPU {
                // LiteRT tells only in the log whether there is no GPU or it lacks an op.
                throw failed(name, "no GPU here, or it refuses the file (\(failure)), use the CPU")
            }
        }
        if accelerator.isGPU, try !reporting(name, compiled.isFullyAccelerated) {
            throw failed(name, "only a part of it runs on the GPU, use the CPU")
        }
        FreedMemory.giveBack()
        return LiteRTNetwork(compiled, file: name)
    }

    /// The names of the manifest are those of the file.
    private static func check(_ model: LiteRTModel, against file: ModelFile) throws {
        for (side, said, held) in [
            ("inputs", file.inputs, model.inputs.map(\.name)),
            ("outputs", file.outputs, model.outputs.map(\.name)),
        ] where !said.isEmpty && Set(said) != Set(held) {
            let names = held.sorted().joined(separator: ", ")
            throw failed(file.url.lastPathComponent, "its \(side) are \(names), the manifest says otherwise")
        }
    }

    private static func environment(
        _ found: LibrarySearch.Found, _ accelerator: LiteRTAccelerator
    ) throws -> LiteRTEnvironment {
        func unavailable(_ reason: String, remedy: String) -> DiffusionError {
            .backendUnavailable(backend: name, reason: reason, remedy: remedy)
        }
        let gpu = accelerator.isGPU ? HardwareAccelerators.gpu : 0
        do {
            let environment = try LiteRTEnvironment(found, accelerators: HardwareAccelerators.cpu | gpu)
            if accelerator.isGPU, try !environment.has(HardwareAccelerators.gpu) {
                throw unavailable(
                    "no LiteRT accelerator for the GPU in \(found.folder)",
                    remedy: "put it there (libLiteRtMetalAccelerator, libLiteRtClGlAccelerator, "
                        + "libLiteRtWebGpuAccelerator), or use the CPU")
            }
            return environment
        } catch let failure as LiteRTFailure {
            throw unavailable("LiteRT does not start (\(failure))", remedy: "use the CPU, or LiteRT 2.3")
        }
    }

    /// LiteRT's own errors, with the file.
    static func reporting<Value>(_ file: String, _ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch let failure as LiteRTFailure {
            switch failure.status {
            case LiteRTFailure.invalidFile: throw DiffusionError.unusableFile(name: file, reason: "LiteRT cannot read it")
            default: throw failed(file, failure.description)
            }
        }
    }

    static func failed(_ file: String, _ reason: String) -> DiffusionError {
        .backendFailed(backend: name, file: file, reason: reason)
    }
}
