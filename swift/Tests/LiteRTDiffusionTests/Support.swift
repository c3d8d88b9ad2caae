import DiffusionCore
import DiffusionTestSupport
import Foundation
import Testing

@testable import LiteRTDiffusion

/// LiteRT's library for the tests: `LITERT_LIBRARY`, else that of a `.venv` above this file.
enum TestLibrary {
    static let url: URL? = {
        if let path = ProcessInfo.processInfo.environment[LibrarySearch.variable], !path.isEmpty {
            return URL(fileURLWithPath: path)
        }
        return places.first { FileManager.default.fileExists(atPath: $0.path) }
    }()

    static var isHere: Bool { url != nil }

    static var needed: ConditionTrait { .enabled(if: isHere, "libLiteRt is not here; set LITERT_LIBRARY") }

    private static var places: [URL] {
        var folder = URL(fileURLWithPath: #filePath)
        var found: [URL] = []
        while folder.path != "/" {
            folder.deleteLastPathComponent()
            let pythons = folder.appendingPathComponent(".venv/lib")
            let names = (try? FileManager.default.contentsOfDirectory(atPath: pythons.path)) ?? []
            found += names.filter { $0.hasPrefix("python3") }.map {
                pythons.appendingPathComponent(
                    "\($0)/site-packages/ai_edge_litert/\(LibrarySearch.fileName)")
            }
        }
        return found
    }
}

/// A tiny network with what LiteRT gives for it in Python (scripts/fixtures/litert.py).
struct Golden: Decodable {
    struct Array: Decodable {
        let shape: [Int]
        let dtype: DType
        let values: [Float]

        var tensor: Tensor { Tensor(shape: shape, values: values) }
    }

    let file: Data
    let inputs: [String: Array]
    let outputs: [String: Array]

    var inputTensors: [String: Tensor] { inputs.mapValues(\.tensor) }
    var outputTensors: [String: Tensor] { outputs.mapValues(\.tensor) }
    var interface: NetworkInterface {
        func infos(_ arrays: [String: Array]) -> [String: TensorInfo] {
            arrays.mapValues { TensorInfo(shape: $0.shape, dtype: $0.dtype) }
        }
        return NetworkInterface(inputs: infos(inputs), outputs: infos(outputs))
    }

    static let names = ["half", "lookup", "rounded", "two_outputs"]

    static func named(_ name: String) throws -> Golden {
        let all = try Fixtures.load("litert", as: [String: Golden].self)
        return all[name]!
    }

    /// Its file on disk, as a bundle names it.
    func modelFile(in folder: TemporaryFolder, name: String = "Tiny.tflite") throws -> ModelFile {
        .of(try folder.write(name, file))
    }
}

extension ModelFile {
    static func of(_ url: URL, inputs: [String] = [], outputs: [String] = []) -> ModelFile {
        ModelFile(
            url: url, component: .unet, contentHash: "", weightBytes: 0, inputs: inputs, outputs: outputs)
    }
}

extension LiteRTBackend {
    static func forTests(threads: Int = 1) throws -> LiteRTBackend {
        try LiteRTBackend(library: TestLibrary.url, accelerator: .cpu(threads: threads))
    }
}
