import CoreML
import DiffusionCore
import Foundation
import Testing

@testable import CoreMLDiffusionOnLinux

/// What Core ML is told, and what its errors become.
@Suite struct CoreMLBackendTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    @Test func eachComponentRunsOnItsUnits() async throws {
        let options = CoreMLOptions(computeUnits: .cpuAndNeuralEngine, overrides: [.vaeDecoder: .cpuAndGPU])
        for component in [Component.unet, .vaeDecoder] {
            await (try bench.backend(options).load(try bench.file(component: component))).unload()
        }
        #expect(bench.loads.map(\.computeUnits) == [.cpuAndNeuralEngine, .cpuAndGPU])
    }

    @Test(arguments: [
        ("all", MLComputeUnits.all), ("cpu-only", .cpuOnly), ("cpu-and-gpu", .cpuAndGPU),
        ("cpu-and-ne", .cpuAndNeuralEngine),
    ])
    func theEnvironmentOverrules(name: String, units: MLComputeUnits) async throws {
        let options = CoreMLOptions(computeUnits: .cpuAndGPU, overrides: [.unet: .cpuOnly])
        let backend = bench.backend(options, environment: ["COREML_SD_COMPUTE_UNITS": name])
        await (try backend.load(try bench.file())).unload()
        #expect(bench.loads.map(\.computeUnits) == [units])
    }

    @Test func anUnknownNameInTheEnvironmentIsRefused() async throws {
        let backend = bench.backend(environment: ["COREML_SD_COMPUTE_UNITS": "neural"])
        let file = try bench.file()
        #expect(
            await error { _ = try await backend.load(file) }
                == .invalidRequest(
                    reason: "COREML_SD_COMPUTE_UNITS is neural; "
                        + "set it to one of all, cpu-only, cpu-and-gpu, cpu-and-ne"))
        #expect(bench.loads.isEmpty)
    }

    @Test func hintsNameAndPrecisionArrive() async throws {
        let file = try bench.file(name: "UnetChunk3.mlpackage")
        await (try bench.backend().load(file)).unload()
        let slow = CoreMLOptions(prefersFastPrediction: false, allowsLowPrecisionAccumulation: true)
        await (try bench.backend(slow).load(file)).unload()
        #expect(bench.loads.map(\.hints.reshapeFrequency) == [.infrequent, .infrequent])
        #expect(bench.loads.map(\.hints.specializationStrategy) == [.fastPrediction, .default])
        #expect(bench.loads.map(\.lowPrecision) == [false, true])
        #expect(bench.loads.map(\.displayName) == ["UnetChunk3", "UnetChunk3"])
    }

    @Test func theFunctionOfASizeArrives() async throws {
        await (try bench.backend().load(try bench.file())).unload()
        await (try bench.backend().load(try bench.file(function: "size_768x512"))).unload()
        #expect(bench.loads.map(\.functionName) == [nil, "size_768x512"])
    }

    @Test func aMissingFileIsNamed() async throws {
        let url = bench.folder.appendingPathComponent("UnetChunk9.mlpackage")
        let file = ModelFile(
            url: url, component: .unet, contentHash: "", weightBytes: 0, inputs: [], outputs: [])
        #expect(
            await error { _ = try await bench.backend().load(file) }
                == .missingFile(name: "UnetChunk9.mlpackage"))
    }

    @Test func aLoadThatFailsSaysWhyOnOneLine() async throws {
        var broken = Workbench.affine
        broken.failure = .load
        let file = try bench.file(broken)
        #expect(
            await error { _ = try await bench.backend().load(file) }
                == .backendFailed(
                    backend: "coreml", file: "Unet.mlpackage", reason: "no plan for this device"))
    }

    @Test func theInterfaceIsTheModelsOwn() async throws {
        let file = try bench.file()
        let interface = try await bench.backend().interface(of: file.url)
        #expect(interface.inputs == ["sample": TensorInfo(shape: [2, 3], dtype: .float16)])
        #expect(interface.outputs == ["noise_pred": TensorInfo(shape: [2, 3], dtype: .float32)])
        #expect(bench.compiles == 1)
        #expect(bench.loads.map(\.computeUnits) == [.cpuOnly])
        #expect(bench.freed == 1)
    }

    @Test(arguments: [StandInModel.Feature([2], "float64"), .init([], "image")])
    func aFeatureThatIsNoArrayOfOursIsRefused(feature: StandInModel.Feature) async throws {
        var model = Workbench.affine
        model.inputs["picture"] = feature
        let file = try bench.file(model)
        #expect(
            await error { _ = try await bench.backend().interface(of: file.url) }
                == .backendFailed(
                    backend: "coreml", file: "Unet.mlpackage",
                    reason: "picture is no array of fp16, fp32 or int32"))
    }

    @Test func prewarmingCompilesLoadsAndFrees() async throws {
        let file = try bench.file()
        try await bench.backend().prewarm(file)
        #expect(bench.compiles == 1)
        #expect(bench.loads.count == 1)
        #expect(bench.freed == 1)
        await (try bench.backend().load(file)).unload()
        #expect(bench.compiles == 1)
    }

    @Test func aCancelledTaskLoadsNothing() async throws {
        let file = try bench.file()
        let backend = bench.backend()
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            _ = try await backend.load(file)
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(bench.compiles == 0)
        #expect(bench.loads.isEmpty)
    }
}
