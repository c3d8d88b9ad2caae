import DiffusionCore

/// The memory of one input or output.
final class LiteRTBuffer {
    let name: String
    let info: TensorInfo
    let pointer: LiteRTPointer
    private let owner: CompiledModel.Compiled

    private var library: LiteRTLibrary { owner.model.environment.library }

    init(_ tensor: DeclaredTensor, requirements: LiteRTPointer, of owner: CompiledModel.Compiled) throws {
        let environment = owner.model.environment
        pointer = try LiteRTLibrary.made {
            environment.library.createBufferFromRequirements(
                environment.pointer, tensor.type.words, requirements, $0)
        }
        name = tensor.name
        info = tensor.info
        self.owner = owner
    }

    deinit { library.destroyTensorBuffer(pointer) }

    /// Put numbers in, as the dtype that is declared.
    ///
    /// - Throws: `ElementCoding.Unfit` where one is not of that dtype.
    func write(_ values: [Float]) throws {
        try mapped(LockMode.write) { try ElementCoding.encode(values, as: info.dtype, into: $0) }
    }

    /// What it holds.
    func read() throws -> Tensor {
        let values = try mapped(LockMode.read) {
            ElementCoding.decode(UnsafeRawBufferPointer($0), as: info.dtype)
        }
        return Tensor(shape: info.shape, values: values)
    }

    /// Its bytes on the host; on the GPU LiteRT copies behind them.
    private func mapped<Value>(
        _ mode: Int32, _ body: (UnsafeMutableRawBufferPointer) throws -> Value
    ) throws -> Value {
        let bytes = info.shape.reduce(info.dtype.byteCount, *)
        guard try LiteRTLibrary.count(library.getTensorBufferPackedSize, of: pointer) >= bytes
        else { throw LiteRTFailure(status: 3) }
        var address: UnsafeMutableRawPointer?
        try LiteRTLibrary.check(library.lockTensorBuffer(pointer, &address, mode))
        let outcome = Result(catching: {
            try body(UnsafeMutableRawBufferPointer(start: address, count: bytes))
        })
        try LiteRTLibrary.check(library.unlockTensorBuffer(pointer))
        return try outcome.get()
    }
}
