import CoreML
import DiffusionCore
import Foundation
import Testing

@testable import CoreMLDiffusionOnLinux

/// Whole pictures over Core ML's stand-in: from both kinds of bundle, in any number of chunks.
@Suite struct DrawingTests {
    let bench: Workbench
    private let request = GenerationRequest(prompt: "a cat", steps: 3, guidance: 4, previewEvery: 0)

    init() throws { bench = try Workbench() }

    @Test(arguments: [1, 2, 5])
    func aFolderOfApplesConverterIsDrawnFrom(chunks: Int) async throws {
        try writeApplesFolder(chunks: chunks)
        let backend = bench.backend()
        let bundle = try await AppleBundle.open(bench.folder, backend: backend)
        #expect(bundle.pipeline.size == ImageSize(height: 64, width: 64))
        let pipeline = try DiffusionPipeline(bundle: bundle, backend: backend, memoryPolicy: .stageByStage)
        let described = bench.loads.count
        let picture = try await pipeline.image(for: request)
        #expect(picture.size == ImageSize(height: 64, width: 64))
        #expect(bench.compiles == 0, "its files are compiled already")
        #expect(bench.loads.count - described == chunks + 2)
        #expect(bench.predictions.count == 2 + 3 * chunks + 1)
        #expect(bench.freed == bench.loads.count)
    }

    @Test func chunkByChunkLoadsEachChunkInEachStep() async throws {
        try writeApplesFolder(chunks: 3)
        let backend = bench.backend()
        let bundle = try await AppleBundle.open(bench.folder, backend: backend)
        let described = bench.loads.count
        let pipeline = try DiffusionPipeline(bundle: bundle, backend: backend, memoryPolicy: .chunkByChunk)
        _ = try await pipeline.image(for: request)
        #expect(bench.loads.count - described == 2 + 3 * 3)
    }

    @Test func aFolderWithAMissingChunkIsRefused() async throws {
        try writeApplesFolder(chunks: 3)
        try FileManager.default.removeItem(at: bench.folder.appendingPathComponent("UnetChunk2.mlmodelc"))
        #expect(
            await error { _ = try await AppleBundle.open(bench.folder, backend: bench.backend()) }
                == .missingFile(name: "UnetChunk2"))
    }

    @Test func aSizeOfSeveralIsAskedForByItsFunction() async throws {
        try writeApplesFolder(chunks: 1)
        let backend = bench.backend()
        var manifest = try await AppleBundle.open(bench.folder, backend: backend).manifest
        let small = manifest.pipeline.size
        manifest.pipeline.sizes = [
            SizeFacts(
                size: ImageSize(height: 128, width: 64), latentSize: ImageSize(height: 16, width: 8),
                function: "main_128x64"),
            SizeFacts(size: small, latentSize: manifest.pipeline.latentSize, function: "main_64x64"),
        ]
        for path in manifest.components.values.flatMap(\.files).map(\.path) {
            manifest.files["\(path)/\(StandInModel.fileName)"] = FileFacts(
                sha256: String(repeating: "0", count: 64), bytes: 1)
        }
        for name in ["vocab.json", "merges.txt"] {
            manifest.files[name] = FileFacts(sha256: String(repeating: "0", count: 64), bytes: 1)
        }
        let file = bench.folder.appendingPathComponent(ModelBundle.manifestName)
        try JSONEncoder().encode(manifest).write(to: file)
        let bundle = try await AppleBundle.open(bench.folder, backend: backend, checking: .nothing)
        #expect(bundle.sizes.count == 2)
        let described = bench.loads.count
        let pipeline = try DiffusionPipeline(bundle: bundle, backend: backend)
        var sized = request
        sized.size = small
        _ = try await pipeline.image(for: sized)
        #expect(bench.loads.dropFirst(described).map(\.functionName).contains("main_64x64"))
        sized.size = ImageSize(height: 72, width: 64)
        let wrong = sized
        #expect(
            await error { _ = try await pipeline.image(for: wrong) }
                == .unsupportedSize(available: bundle.sizes))
    }

    private func writeApplesFolder(chunks: Int) throws {
        let latent = StandInModel.Feature([2, 4, 8, 8], "float16")
        let context = StandInModel.Feature([2, 8, 1, 16], "float16")
        try write(
            "TextEncoder",
            StandInModel(
                inputs: ["input_ids": .init([1, 16], "float32")],
                outputs: ["last_hidden_state": .init(.init([1, 16, 8], "float32"), from: "input_ids", scale: 0.001)]))
        for chunk in 1...chunks {
            var inputs = ["encoder_hidden_states": context]
            let source = chunk == 1 ? "sample" : "seam_\(chunk - 1)"
            inputs[source] = latent
            if chunk == 1 { inputs["timestep"] = .init([2], "float16") }
            let name = chunk == chunks ? "noise_pred" : "seam_\(chunk)"
            try write(
                chunks == 1 ? "Unet" : "UnetChunk\(chunk)",
                StandInModel(inputs: inputs, outputs: [name: .init(latent, from: source, scale: 0.5)]))
        }
        try write(
            "VAEDecoder",
            StandInModel(
                inputs: ["z": .init([1, 4, 8, 8], "float16")],
                outputs: ["image": .init(.init([1, 3, 64, 64], "float32"), from: "z")]))
        try writeTokenizer()
    }

    private func write(_ name: String, _ model: StandInModel) throws {
        try model.write(to: bench.folder.appendingPathComponent("\(name).mlmodelc"))
    }

    /// One token for each lower-case letter.
    private func writeTokenizer() throws {
        let letters = "abcdefghijklmnopqrstuvwxyz".map(String.init)
        let tokens = letters + letters.map { $0 + "</w>" } + ["<|startoftext|>", "<|endoftext|>"]
        let vocabulary = Dictionary(uniqueKeysWithValues: tokens.enumerated().map { ($1, $0) })
        try JSONEncoder().encode(vocabulary).write(to: bench.folder.appendingPathComponent("vocab.json"))
        try Data("#version: 0.2\n".utf8).write(to: bench.folder.appendingPathComponent("merges.txt"))
    }
}
