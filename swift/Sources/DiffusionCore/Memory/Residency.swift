import Foundation

/// Loads and frees networks as a ``MemoryPolicy`` says, and runs the files of a component one after
/// another.
///
/// A pipeline is the only caller and asks for one thing at a time.
actor Residency {
    private let backend: any ModelBackend
    private let policy: MemoryPolicy
    private var loaded: [ModelFile: any Network] = [:]

    init(backend: any ModelBackend, policy: MemoryPolicy) {
        self.backend = backend
        self.policy = policy
    }

    /// Load what a stage needs before it begins.
    ///
    /// - Parameter progress: from 0 to 1 of the weights' bytes.
    func load(_ files: [ModelFile], progress: @Sendable (Double) -> Void) async throws {
        let needed = loadsOneByOne(files) ? [] : files.filter { loaded[$0] == nil }
        guard !needed.isEmpty else { return }
        let total = Double(max(needed.map(\.weightBytes).reduce(0, +), 1))
        var done = 0.0
        progress(0)
        for file in needed {
            _ = try await network(for: file)
            done += Double(file.weightBytes)
            progress(min(done / total, 1))
        }
    }

    /// Run a component's files in order over one pool of named tensors: each reads inputs of the
    /// whole and what earlier files wrote.
    ///
    /// - Returns: what the last file gives.
    /// - Throws: ``DiffusionError``; `CancellationError` between two files.
    func run(_ files: [ModelFile], _ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        var pool = inputs
        var outputs: [String: Tensor] = [:]
        for file in files {
            let network = try await network(for: file)
            try Task.checkCancellation()
            let names = network.interface.inputs.keys
            outputs = try await network.run(pool.filter { names.contains($0.key) })
            pool.merge(outputs) { _, new in new }
            if loadsOneByOne(files) { await free(file) }
        }
        return outputs
    }

    /// A stage is over: free its files, unless the policy keeps them.
    func finished(with files: [ModelFile]) async {
        guard policy != .allResident else { return }
        for file in files { await free(file) }
    }

    /// Free everything.
    func unload() async {
        for file in loaded.keys { await free(file) }
    }

    private func loadsOneByOne(_ files: [ModelFile]) -> Bool {
        policy == .chunkByChunk && files.count > 1
    }

    private func network(for file: ModelFile) async throws -> any Network {
        try Task.checkCancellation()
        if let network = loaded[file] { return network }
        let network = try await backend.load(file)
        loaded[file] = network
        return network
    }

    private func free(_ file: ModelFile) async {
        await loaded.removeValue(forKey: file)?.unload()
    }
}
