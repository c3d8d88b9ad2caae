#if os(Linux)
import DiffusionCore
import DiffusionTestSupport
import Foundation
import Testing

@testable import LiteRTDiffusion

@Suite("Memory", .serialized, TestLibrary.needed)
struct MemoryTests {
    /// Resident bytes of this process.
    func resident() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        return try #require(Int(text.split(separator: " ")[1])) * 4096
    }

    @Test("of a network goes with it, and so does its environment") func released() async throws {
        let folder = try TemporaryFolder()
        weak var environment: LiteRTEnvironment?
        weak var model: LiteRTModel?
        weak var buffer: LiteRTBuffer?
        do {
            let found = try LibrarySearch.find(explicit: TestLibrary.url)
            let opened = try LiteRTEnvironment(found, accelerators: HardwareAccelerators.cpu)
            let url = try Golden.named("half").modelFile(in: folder).url
            let compiled = try CompiledModel(LiteRTModel(url, in: opened), accelerator: .cpu(threads: 1))
            (environment, model, buffer) = (opened, compiled.model, compiled.inputs[0])
            #expect(environment != nil && model != nil && buffer != nil)
        }
        #expect(environment == nil && model == nil && buffer == nil)
    }

    @Test("does not grow with loads and unloads") func steady() async throws {
        let folder = try TemporaryFolder()
        let backend = try LiteRTBackend.forTests()
        let golden = try Golden.named("half")
        let file = try golden.modelFile(in: folder)
        func rounds(_ count: Int) async throws {
            for _ in 0..<count {
                let network = try await backend.load(file)
                _ = try await network.run(golden.inputTensors)
                await network.unload()
            }
        }
        try await rounds(50)
        // A leak of 20 kB each would show every time; what other tests beside this one take does not.
        var growth = Int.max
        for _ in 0..<5 where growth >= 10_000_000 {
            let before = try resident()
            try await rounds(500)
            growth = try resident() - before
        }
        #expect(growth < 10_000_000)
    }
}
#endif
