import Foundation
import Testing

@testable import DiffusionCore

@Suite("A folder of apple/ml-stable-diffusion is refused")
struct AppleRefusalTests {
    private func refusal(_ fixture: AppleFixture) async -> DiffusionError? {
        do {
            _ = try await fixture.open()
            return nil
        } catch {
            return error as? DiffusionError
        }
    }

    private func isUnsupported(_ fixture: AppleFixture, _ part: String) async -> Bool {
        guard case .unsupportedBundle(let reason)? = await refusal(fixture) else { return false }
        return part.isEmpty || reason.contains(part)
    }

    @Test func ifItIsSDXLOrSD3() async throws {
        let two = try AppleFixture.sd15(changing: ["TextEncoder2.mlmodelc": AppleInterfaces.textEncoder()])
        #expect(await isUnsupported(two, "SDXL"))
        let three = try AppleFixture.sd15(changing: [
            "MultiModalDiffusionTransformer.mlmodelc": AppleInterfaces.unet(),
        ])
        #expect(await isUnsupported(three, "SD 3"))
        var unet = AppleInterfaces.unet()
        unet.inputs["time_ids"] = TensorInfo(shape: [2, 6], dtype: .float16)
        let hidden = try AppleFixture.sd15(changing: ["Unet.mlmodelc": unet])
        #expect(await isUnsupported(hidden, "time_ids"))
    }

    @Test func ifAFileIsMissing() async throws {
        for (name, component) in [
            ("TextEncoder", Component.textEncoder), ("Unet", .unet), ("VAEDecoder", .vaeDecoder),
        ] {
            let fixture = try AppleFixture.sd15(changing: [name + ".mlmodelc": nil])
            let all: [Component] = [.textEncoder, .unet, .vaeDecoder]
            let held = all.filter { $0 != component }
            #expect(await refusal(fixture) == .missingComponent(component, held: held))
        }
        for name in ["vocab.json", "merges.txt"] {
            let fixture = try AppleFixture.sd15()
            try FileManager.default.removeItem(at: fixture.folder.url.appendingPathComponent(name))
            #expect(await refusal(fixture) == .missingFile(name: name))
        }
        let empty = try AppleFixture([:])
        #expect(await refusal(empty) == .notABundle(empty.folder.url))
    }

    @Test("if a chunk is missing", arguments: [1, 2, 3])
    func missingChunk(missing: Int) async throws {
        var changes: [String: NetworkInterface?] = ["Unet.mlmodelc": nil]
        for number in 1...3 where number != missing {
            changes["UnetChunk\(number).mlmodelc"] = AppleInterfaces.chunk(number, of: 3)
        }
        #expect(
            await refusal(try AppleFixture.sd15(changing: changes))
                == .missingFile(name: "UnetChunk\(missing)"))
    }

    @Test func ifChunksDoNotFitTogether() async throws {
        let fixture = try AppleFixture.sd15(changing: [
            "Unet.mlmodelc": nil, "UnetChunk1.mlmodelc": AppleInterfaces.chunk(1, of: 3),
            "UnetChunk2.mlmodelc": AppleInterfaces.chunk(3, of: 3),
        ])
        #expect(await isUnsupported(fixture, "UnetChunk2.mlmodelc takes seam_2"))
    }

    @Test func ifInputsOrOutputsHaveOtherNamesOrForms() async throws {
        let text = AppleInterfaces.interface(["ids": [1, 77]], ["last_hidden_state": [1, 77, 768]])
        #expect(
            await isUnsupported(
                try AppleFixture.sd15(changing: ["TextEncoder.mlmodelc": text]),
                "text_encoder has no input input_ids"))
        let decoder = AppleInterfaces.interface(["z": [1, 4, 64, 64]], ["var_42": [1, 3, 512, 512]])
        #expect(
            await isUnsupported(
                try AppleFixture.sd15(changing: ["VAEDecoder.mlmodelc": decoder]),
                "vae_decoder has no output image"))
        var flexible = AppleInterfaces.unet()
        flexible.inputs["sample"]?.shape = [2, 4, -1, -1]
        #expect(
            await isUnsupported(try AppleFixture.sd15(changing: ["Unet.mlmodelc": flexible]), "sample"))
    }

    @Test("if a shape is beyond all sizes", arguments: [
        [2, 4, 40_000, 40_000], [1 << 62, 4, 64, 64], [2, 1_000_000_000, 64, 64], [3, 4, 64, 64],
        [2, 4, 1 << 62, 1 << 62], [2, 4, 4097, 64],
    ])
    func hugeShape(sample: [Int]) async throws {
        var unet = AppleInterfaces.unet()
        unet.inputs["sample"]?.shape = sample
        #expect(await isUnsupported(try AppleFixture.sd15(changing: ["Unet.mlmodelc": unet]), ""))
    }

    @Test func ifAPictureIsBeyondAllSizes() async throws {
        let decoder = AppleInterfaces.decoder(image: [1, 3, 1 << 62, 1 << 62])
        let facts = try await AppleFixture.sd15(changing: ["VAEDecoder.mlmodelc": decoder]).open().pipeline
        #expect(facts.vaeScaleFactor == 8)
    }

    @Test func butAChunkOfAnEndlessNumberIsNone() async throws {
        let name = "UnetChunk\(Int.max).mlmodelc"
        let fixture = try AppleFixture.sd15(changing: [name: AppleInterfaces.unet()])
        #expect(try await fixture.open().components.contains(.unet))
    }

    @Test func ifItsVocabularyIsAPipe() async throws {
        let fixture = try AppleFixture.sd15()
        let url = fixture.folder.url.appendingPathComponent("vocab.json")
        try FileManager.default.removeItem(at: url)
        #expect(mkfifo(url.path, 0o600) == 0)
        #expect(
            await refusal(fixture)
                == .unusableFile(name: "vocab.json", reason: "it is not a regular file"))
    }

    @Test func ifFilesOfTwoModelsLieTogether() async throws {
        let fixture = try AppleFixture([
            "Stable_Diffusion_version_a_unet.mlpackage": AppleInterfaces.unet(),
            "Stable_Diffusion_version_b_unet.mlpackage": AppleInterfaces.unet(),
        ])
        #expect(await isUnsupported(fixture, "different models"))
    }

    @Test func ifTheBackendDoesNotReadCoreML() async throws {
        var fixture = try AppleFixture.sd15()
        fixture.backend.target = .tflite
        #expect(await refusal(fixture) == .missingTarget(.tflite, held: [.coreml]))
    }

    @Test func ifTheVocabularyHasNoMarks() async throws {
        let fixture = try AppleFixture.sd15()
        try fixture.folder.write("vocab.json", #"{"a":0}"#)
        #expect(await refusal(fixture) == .unusableFile(
            name: "vocab.json", reason: "it lacks the marks of start and end"))
    }

    @Test func ifTheBackendCannotDescribeAFile() async throws {
        var fixture = try AppleFixture.sd15()
        fixture.backend.interfaces["Unet.mlmodelc"] = nil
        #expect(
            await refusal(fixture)
                == .backendFailed(backend: "stub", file: "Unet.mlmodelc", reason: "not described"))
    }
}
