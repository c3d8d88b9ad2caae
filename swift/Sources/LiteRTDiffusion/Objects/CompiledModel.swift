import DiffusionCore

/// A model compiled for one accelerator, with a buffer for each input and output.
///
/// What is destroyed last is held by what is destroyed first: buffers hold what is compiled, that
/// holds the model, the model the environment.
final class CompiledModel {
    let model: LiteRTModel
    let inputs: [LiteRTBuffer]
    let outputs: [LiteRTBuffer]
    private let compiled: Compiled

    init(_ model: LiteRTModel, accelerator: LiteRTAccelerator) throws {
        let compiled = try Compiled(model, accelerator: accelerator)
        let library = model.environment.library
        func buffers(
            _ tensors: [DeclaredTensor], _ needs: LiteRTLibrary.GetRequirements
        ) throws -> [LiteRTBuffer] {
            try tensors.enumerated().map { index, tensor in
                let requirements = try LiteRTLibrary.made { needs(compiled.pointer, 0, index, $0) }
                return try LiteRTBuffer(tensor, requirements: requirements, of: compiled)
            }
        }
        inputs = try buffers(model.inputs, library.getCompiledModelInputBufferRequirements)
        outputs = try buffers(model.outputs, library.getCompiledModelOutputBufferRequirements)
        self.model = model
        self.compiled = compiled
    }

    /// One pass from the buffers of the inputs to those of the outputs.
    func run() throws {
        var sources = inputs.map { Optional($0.pointer) }
        var sinks = outputs.map { Optional($0.pointer) }
        try LiteRTLibrary.check(
            model.environment.library.runCompiledModel(
                compiled.pointer, 0, sources.count, &sources, sinks.count, &sinks))
    }

    /// LiteRT's own handle.
    final class Compiled {
        let model: LiteRTModel
        let pointer: LiteRTPointer

        init(_ model: LiteRTModel, accelerator: LiteRTAccelerator) throws {
            let (environment, library) = (model.environment, model.environment.library)
            pointer = try CompilationOptions(accelerator).with(library) { options in
                try LiteRTLibrary.made {
                    library.createCompiledModel(environment.pointer, model.pointer, options, $0)
                }
            }
            self.model = model
        }

        deinit { model.environment.library.destroyCompiledModel(pointer) }

        /// Whether the accelerator takes every op.
        func isFullyAccelerated() throws -> Bool {
            var answer = false
            try LiteRTLibrary.check(
                model.environment.library.compiledModelIsFullyAccelerated(pointer, &answer))
            return answer
        }
    }

    func isFullyAccelerated() throws -> Bool { try compiled.isFullyAccelerated() }
}

/// How a model is compiled. Choices for an accelerator travel as a line of TOML under its name
/// (litert/c/options/litert_cpu_options.cc, litert_gpu_options.cc).
struct CompilationOptions {
    let accelerators: Int32
    let name: String
    let text: String

    init(_ accelerator: LiteRTAccelerator) {
        switch accelerator {
        case .cpu(let threads):
            accelerators = HardwareAccelerators.cpu
            name = "xnnpack"
            text = "num_threads = \(threads ?? LiteRTAccelerator.defaultThreads)\n"
        case .gpu(let exact):
            accelerators = HardwareAccelerators.gpu
            name = "gpu_options"
            text = exact ? "precision = 2\n" : ""
        }
    }

    /// Options for the length of `body`.
    func with<Result>(_ library: LiteRTLibrary, _ body: (LiteRTPointer) throws -> Result) throws -> Result {
        let options = try LiteRTLibrary.made(library.createOptions)
        var payload = Array(text.utf8CString)
        return try payload.withUnsafeMutableBytes { payload in
            // The options go before the text that they point to.
            defer { library.destroyOptions(options) }
            try LiteRTLibrary.check(library.setOptionsHardwareAccelerators(options, accelerators))
            let chosen = try LiteRTLibrary.made {
                library.createOpaqueOptions(name, payload.baseAddress, { _ in }, $0)
            }
            try LiteRTLibrary.check(library.addOpaqueOptions(options, chosen))
            return try body(options)
        }
    }
}
