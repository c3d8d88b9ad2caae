import CoreML
import DiffusionCore
import Foundation
import Testing

@testable import CoreMLDiffusionOnLinux

/// Numbers in and out of a loaded model.
@Suite struct CoreMLNetworkTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    private let sample = Tensor(shape: [2, 3], values: [0, 1, -2, 0.5, 4, -0.25])

    @Test func anOutputIsWhatTheModelComputes() async throws {
        let network = try await bench.backend().load(try bench.file())
        let outputs = try await network.run(["sample": sample])
        #expect(outputs == ["noise_pred": Tensor(shape: [2, 3], values: [1, 3, -3, 2, 9, 0.5])])
    }

    @Test(arguments: ["float16", "float32", "int32"], [0, 1, 13])
    func gapsInAnOutputAreSkipped(type: String, padding: Int) async throws {
        let shape = [2, 3, 4, 5]
        let model = StandInModel(
            inputs: ["x": .init(shape, "float32")],
            outputs: ["y": .init(.init(shape, type), from: "x", scale: 3, offset: -7, padding: padding)])
        let network = try await bench.backend().load(try bench.file(model))
        let x = Tensor(shape: shape, values: (0..<120).map { Float($0) })
        let outputs = try await network.run(["x": x])
        #expect(outputs["y"]?.values == x.values.map { 3 * $0 - 7 })
    }

    @Test func halfPrecisionInputsAreRounded() async throws {
        let values: [Float] = [2049, 2051, 1e6, -0x1.1p-24, 0.1, .nan]
        let model = StandInModel(
            inputs: ["x": .init([6], "float16")], outputs: ["y": .init(.init([6], "float32"), from: "x")])
        let network = try await bench.backend().load(try bench.file(model))
        let y = try #require(try await network.run(["x": Tensor(shape: [6], values: values)])["y"]?.values)
        #expect(y.map(\.bitPattern).dropLast() == values.map { Float(Float16($0)).bitPattern }.dropLast())
        #expect(y[5].isNaN)
    }

    @Test func wholeNumbersStayExactAndOthersAreRefused() async throws {
        let model = StandInModel(
            inputs: ["ids": .init([2], "int32")], outputs: ["y": .init(.init([2], "int32"), from: "ids")])
        let network = try await bench.backend().load(try bench.file(model))
        let ids = Tensor(shape: [2], values: [49407, -3])
        #expect(try await network.run(["ids": ids])["y"] == ids)
        for bad: Float in [0.5, .nan, .infinity, 3e9] {
            #expect(
                await error { _ = try await network.run(["ids": Tensor(shape: [2], values: [1, bad])]) }
                    == .wrongInput(
                        network: "Unet.mlpackage", reason: "input ids holds a number that is not whole"))
        }
    }

    @Test func inputArraysAreMadeOnceAndFilledAgain() async throws {
        let network = try await bench.backend().load(try bench.file())
        _ = try await network.run(["sample": sample])
        let second = try await network.run(["sample": Tensor(shape: [2, 3], repeating: 5)])
        #expect(second["noise_pred"] == Tensor(shape: [2, 3], repeating: 11))
        #expect(bench.predictions.count == 2)
        #expect(bench.predictions[0] == bench.predictions[1])
    }

    @Test func aMissingInputIsNamed() async throws {
        let network = try await bench.backend().load(try bench.file())
        #expect(
            await error { _ = try await network.run(["latent": sample]) }
                == .wrongInput(network: "Unet.mlpackage", reason: "input sample is missing"))
        #expect(bench.predictions.isEmpty)
    }

    @Test func anotherShapeIsRefused() async throws {
        let network = try await bench.backend().load(try bench.file())
        #expect(
            await error { _ = try await network.run(["sample": Tensor(shape: [3, 2])]) }
                == .wrongInput(
                    network: "Unet.mlpackage", reason: "input sample has shape [3, 2], not [2, 3]"))
    }

    @Test func inputsOfOtherFilesAreLeftOut() async throws {
        let network = try await bench.backend().load(try bench.file())
        _ = try await network.run(["sample": sample, "timestep": Tensor(shape: [2])])
        #expect(bench.predictions.map { Array($0.keys) } == [["sample"]])
    }

    @Test func aPredictionThatFailsSaysWhyOnOneLine() async throws {
        var broken = Workbench.affine
        broken.failure = .predict
        let network = try await bench.backend().load(try bench.file(broken))
        #expect(
            await error { _ = try await network.run(["sample": sample]) }
                == .backendFailed(backend: "coreml", file: "Unet.mlpackage", reason: "evaluation failed"))
    }

    @Test func aCancelledTaskDoesNotPredict() async throws {
        let network = try await bench.backend().load(try bench.file())
        let task = Task { [sample] in
            withUnsafeCurrentTask { $0?.cancel() }
            _ = try await network.run(["sample": sample])
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(bench.predictions.isEmpty)
    }

    @Test func unloadingFreesTheModel() async throws {
        let network = try await bench.backend().load(try bench.file())
        #expect(bench.freed == 0)
        await network.unload()
        #expect(bench.freed == 1)
        #expect(
            await error { _ = try await network.run(["sample": sample]) }
                == .backendFailed(
                    backend: "coreml", file: "Unet.mlpackage", reason: "it was unloaded before"))
    }

    @Test func manyTasksShareOneNetwork() async throws {
        let network = try await bench.backend().load(try bench.file())
        try await withThrowingTaskGroup(of: (Int, [String: Tensor]).self) { group in
            for value in 0..<50 {
                group.addTask {
                    (value, try await network.run(["sample": Tensor(shape: [2, 3], repeating: Float(value))]))
                }
            }
            for try await (value, outputs) in group {
                #expect(outputs["noise_pred"] == Tensor(shape: [2, 3], repeating: Float(2 * value + 1)))
            }
        }
    }

    @Test func aUNetOfAnyNumberOfFilesIsLoadedOneByOne() async throws {
        var tensor = sample
        for chunk in 1...5 {
            var model = Workbench.affine
            model.inputs["sample"] = .init([2, 3], "float32")
            let file = try bench.file(model, name: "UnetChunk\(chunk).mlpackage", hash: "\(chunk)")
            let network = try await bench.backend().load(file)
            tensor = try #require(try await network.run(["sample": tensor])["noise_pred"])
            await network.unload()
        }
        #expect(tensor.values == sample.values.map { 32 * $0 + 31 })
        #expect(bench.freed == 5)
    }
}
