import DiffusionCore
import DiffusionTestSupport
import Foundation
import Testing

@testable import LiteRTDiffusion

private let gpuIsHere =
    TestLibrary.isHere && ProcessInfo.processInfo.environment["LITERT_TEST_GPU"] == "1"

@Suite("A network on the GPU", .enabled(if: gpuIsHere, "LITERT_TEST_GPU=1 says that there is a GPU"))
struct GPUTests {
    let folder: TemporaryFolder
    let backend: LiteRTBackend

    init() throws {
        folder = try TemporaryFolder()
        backend = try LiteRTBackend(library: TestLibrary.url, accelerator: .gpu(exact: true))
    }

    @Test("gives what the CPU gives") func golden() async throws {
        let golden = try Golden.named("two_outputs")
        let file = try golden.modelFile(in: folder)
        try await backend.prewarm(file)
        for _ in 0..<3 {
            let network = try await backend.load(file)
            #expect(try await network.run(golden.inputTensors) == golden.outputTensors)
            await network.unload()
        }
    }

    @Test("is refused where an op is not for the GPU") func refused() async throws {
        let taken = try Golden.named("two_outputs").modelFile(in: folder, name: "Taken.tflite")
        await (try backend.load(taken)).unload()
        let file = try Golden.named("lookup").modelFile(in: folder)
        let error = await #expect(throws: DiffusionError.self) { try await backend.load(file) }
        #expect(error?.description.contains("use the CPU") == true)
    }
}
