import DiffusionCore
import DiffusionTestSupport
import Foundation
import Testing

@testable import LiteRTDiffusion

@Suite("A network run by LiteRT", TestLibrary.needed)
struct NetworkTests {
    let folder: TemporaryFolder
    let backend: LiteRTBackend

    init() throws {
        folder = try TemporaryFolder()
        backend = try .forTests()
    }

    func network(_ name: String) async throws -> (any Network, Golden) {
        let golden = try Golden.named(name)
        return (try await backend.load(golden.modelFile(in: folder)), golden)
    }

    @Test("gives what it gives in Python, to the bit", arguments: Golden.names)
    func golden(name: String) async throws {
        let (network, golden) = try await network(name)
        #expect(try await network.run(golden.inputTensors) == golden.outputTensors)
    }

    @Test("gives something else for other inputs, so the comparison means something")
    func otherInputs() async throws {
        let (network, golden) = try await network("half")
        var inputs = golden.inputTensors
        inputs["x"]!.values[7] += 0.5
        #expect(try await network.run(inputs) != golden.outputTensors)
        #expect(try await network.run(golden.inputTensors) == golden.outputTensors)
    }

    @Test("knows a sum from a difference, and left from right")
    func arithmetic() async throws {
        let (network, _) = try await network("two_outputs")
        let right = Tensor(shape: [2, 3], values: [1, 2, 3, 4, 5, 6])
        let left = Tensor(shape: [2, 3], repeating: 0.5)
        let outputs = try await network.run(["left": left, "right": right])
        #expect(outputs["total"]?.values == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5])
        #expect(outputs["gap"]?.values == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    }

    @Test("declares names, shapes and dtypes, loaded or not", arguments: Golden.names)
    func interface(name: String) async throws {
        let (network, golden) = try await network(name)
        #expect(network.interface == golden.interface)
        let url = try golden.modelFile(in: folder, name: "Other.tflite").url
        #expect(try await backend.interface(of: url) == golden.interface)
    }

    @Test("says which input is missing, unknown, or of another shape")
    func wrongInput() async throws {
        let (network, golden) = try await network("two_outputs")
        func reason(_ inputs: [String: Tensor]) async -> String? {
            do {
                _ = try await network.run(inputs)
            } catch DiffusionError.wrongInput("Tiny.tflite", let reason) {
                return reason
            } catch {}
            return nil
        }
        var inputs = golden.inputTensors
        inputs["left"] = nil
        #expect(await reason(inputs) == "input left is missing")
        inputs["middle"] = Tensor(shape: [1])
        #expect(await reason(inputs) == "no input middle; it takes left, right")
        inputs = golden.inputTensors
        inputs["left"] = Tensor(shape: [3, 2])
        #expect(await reason(inputs) == "input left has shape [3, 2], needs [2, 3]")
        #expect(await reason(golden.inputTensors) == nil)
    }

    @Test("takes whole numbers only where it needs integers", arguments: [0.5, .nan, 3e9, -.infinity])
    func notAnInteger(value: Float) async throws {
        let (network, golden) = try await network("lookup")
        var inputs = golden.inputTensors
        inputs["input_ids"]!.values[2] = value
        await #expect(throws: DiffusionError.wrongInput(
            network: "Tiny.tflite", reason: "\(value) is not a 32-bit integer, which input input_ids needs")
        ) { try await network.run(inputs) }
        #expect(try await network.run(golden.inputTensors) == golden.outputTensors)
    }

    @Test("is an error after it has been unloaded")
    func unloaded() async throws {
        let (network, golden) = try await network("half")
        await network.unload()
        await network.unload()
        await #expect(throws: DiffusionError.backendFailed(
            backend: "litert", file: "Tiny.tflite", reason: "it has been unloaded")
        ) { try await network.run(golden.inputTensors) }
    }

    @Test("lives without its backend")
    func outlivesBackend() async throws {
        let golden = try Golden.named("half")
        let network = try await LiteRTBackend.forTests().load(golden.modelFile(in: folder))
        #expect(try await network.run(golden.inputTensors) == golden.outputTensors)
    }

    @Test("does not begin where its task has been cancelled")
    func cancelled() async throws {
        let (network, golden) = try await network("half")
        let file = try golden.modelFile(in: folder, name: "Other.tflite")
        let task = Task { [backend] in
            withUnsafeCurrentTask { $0?.cancel() }
            await #expect(throws: CancellationError.self) { try await network.run(golden.inputTensors) }
            await #expect(throws: CancellationError.self) { try await backend.load(file) }
            await #expect(throws: CancellationError.self) { try await backend.interface(of: file.url) }
        }
        await task.value
        #expect(try await network.run(golden.inputTensors) == golden.outputTensors)
    }

    @Test("runs beside others, and takes many callers one after the other")
    func atOnce() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for name in Golden.names + Golden.names {
                let golden = try Golden.named(name)
                let file = try golden.modelFile(in: folder, name: "\(name).tflite")
                group.addTask { [backend] in
                    let network = try await backend.load(file)
                    try await withThrowingTaskGroup(of: [String: Tensor].self) { runs in
                        for _ in 0..<20 { runs.addTask { try await network.run(golden.inputTensors) } }
                        for try await outputs in runs { #expect(outputs == golden.outputTensors) }
                    }
                    await network.unload()
                }
            }
            try await group.waitForAll()
        }
    }

    @Test("refuses a file whose names are not the manifest's")
    func otherNames() async throws {
        let url = try Golden.named("half").modelFile(in: folder).url
        await #expect(throws: DiffusionError.backendFailed(
            backend: "litert", file: "Tiny.tflite", reason: "its inputs are x, the manifest says otherwise")
        ) { try await backend.load(.of(url, inputs: ["sample"], outputs: ["y"])) }
        _ = try await backend.load(.of(url, inputs: ["x"], outputs: ["y"]))
    }

    @Test("is only looked at by a prewarm on the CPU, which refuses what a load refuses")
    func prewarm() async throws {
        try await backend.prewarm(Golden.named("half").modelFile(in: folder))
        await #expect(throws: DiffusionError.unusableFile(
            name: "Bad.tflite", reason: "it is no whole .tflite")
        ) {
            try await backend.prewarm(.of(folder.write("Bad.tflite", Data("nonsense".utf8))))
        }
    }
}
