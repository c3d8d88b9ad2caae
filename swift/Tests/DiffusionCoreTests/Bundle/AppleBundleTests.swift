import Foundation
import Testing

@testable import DiffusionCore

@Suite("A folder of apple/ml-stable-diffusion")
struct AppleBundleTests {
    @Test func givesItsFactsFromTheNetworks() async throws {
        let fixture = try AppleFixture.sd15()
        let bundle = try await fixture.open()
        let facts = bundle.pipeline
        #expect(bundle.components == [.textEncoder, .unet, .vaeDecoder])
        #expect(bundle.targets == [.coreml])
        #expect(facts.size == ImageSize(height: 512, width: 512))
        #expect(facts.latentSize == ImageSize(height: 64, width: 64))
        #expect((facts.latentChannels, facts.vaeScaleFactor, facts.batch) == (4, 8, 2))
        #expect((facts.scalingFactor, facts.shiftFactor) == (0.18215, 0))
        #expect(facts.predictionType == "epsilon")
        #expect(facts.maxTokens == 77)
        #expect(
            facts.tokenizer
                == TokenizerFacts(bosTokenID: 7, eosTokenID: 9, padTokenID: 9, maxTokens: 77))
        #expect(facts.scheduler["beta_start"] == .number(0.00085))
        #expect(facts.scheduler["beta_schedule"] == .string("scaled_linear"))
        #expect(facts.scheduler["steps_offset"] == .integer(1))
        let file = try #require(try bundle.files(of: .unet, for: .coreml).first)
        #expect(file.url.lastPathComponent == "Unet.mlmodelc")
        #expect(file.weightBytes == 120 && file.contentHash.isEmpty)
        #expect(file.inputs == ["encoder_hidden_states", "sample", "timestep"])
        #expect(try bundle.interface(of: .unet) == AppleInterfaces.unet())
    }

    @Test("predicts v for SD 2.x at 768 pixels only", arguments: [
        (768, 64, 64, "epsilon"), (768, 96, 96, "epsilon"), (1024, 64, 64, "epsilon"),
        (1024, 95, 64, "epsilon"), (1024, 96, 96, "v_prediction"), (1024, 64, 96, "v_prediction"),
    ])
    func prediction(width: Int, height: Int, across: Int, type: String) async throws {
        let fixture = try AppleFixture.sd15(changing: [
            "Unet.mlmodelc": AppleInterfaces.unet(latent: (height, across), width: width),
            "VAEDecoder.mlmodelc": AppleInterfaces.decoder(latent: (height, across)),
        ])
        let facts = try await fixture.open().pipeline
        #expect(facts.predictionType == type)
        #expect(facts.scheduler["prediction_type"] == .string(type))
        #expect(facts.size == ImageSize(height: 8 * height, width: 8 * across))
    }

    @Test("takes the picture's size from the decoder, or 8 pixels for each", arguments: [
        ([1, 3, 256, 256], 4), ([], 8), ([1, 3, -1, -1], 8), ([1, 3, 0, 0], 8), ([1, 3, 512, 511], 8),
    ])
    func pictureSize(image: [Int], factor: Int) async throws {
        let fixture = try AppleFixture.sd15(changing: [
            "VAEDecoder.mlmodelc": AppleInterfaces.decoder(image: image),
        ])
        let facts = try await fixture.open().pipeline
        #expect(facts.vaeScaleFactor == factor)
        #expect(facts.size == ImageSize(height: 64 * factor, width: 64 * factor))
    }

    @Test("runs any number of chunks in the order of their numbers", arguments: [2, 3, 12])
    func chunks(count: Int) async throws {
        var changes: [String: NetworkInterface?] = ["Unet.mlmodelc": nil]
        for number in 1...count {
            changes["UnetChunk\(number).mlmodelc"] = AppleInterfaces.chunk(number, of: count)
        }
        let fixture = try AppleFixture.sd15(changing: changes)
        let bundle = try await fixture.open()
        let files = try bundle.files(of: .unet, for: .coreml)
        #expect(files.map(\.url.lastPathComponent) == (1...count).map { "UnetChunk\($0).mlmodelc" })
        #expect(files.first?.inputs == ["encoder_hidden_states", "sample", "timestep"])
        #expect(files.last?.outputs == ["noise_pred"])
        let whole = try bundle.interface(of: .unet)
        #expect(whole.inputs.keys.sorted() == ["encoder_hidden_states", "sample", "timestep"])
        #expect(whole.outputs.keys.sorted() == ["noise_pred"])
    }

    @Test func liesInResourcesToo() async throws {
        let fixture = try AppleFixture.sd15(in: "Resources")
        // The converter leaves its packages beside that folder, without a tokenizer.
        try fixture.folder.write("Stable_Diffusion_version_v1-5_unet.mlpackage/x", "x")
        #expect(AppleBundle.isHere(fixture.folder.url))
        let bundle = try await fixture.open()
        #expect(bundle.url.lastPathComponent == "Resources")
        #expect(FileManager.default.fileExists(atPath: bundle.vocabularyURL.path))
    }

    @Test func hasLongNamesToo() async throws {
        let prefix = "Stable_Diffusion_version_runwayml_stable-diffusion-v1-5_"
        let fixture = try AppleFixture([
            prefix + "text_encoder.mlpackage": AppleInterfaces.textEncoder(),
            prefix + "unet_chunk2.mlpackage": AppleInterfaces.chunk(2, of: 2),
            prefix + "unet_chunk1.mlpackage": AppleInterfaces.chunk(1, of: 2),
            prefix + "vae_decoder.mlpackage": AppleInterfaces.decoder(),
            prefix + "vae_encoder.mlpackage": AppleInterfaces.encoder,
            prefix + "control-unet.mlpackage": AppleInterfaces.unet(),
            prefix + "safety_checker.mlpackage": AppleInterfaces.unet(),
            prefix + "refiner.mlpackage": AppleInterfaces.unet(),
        ])
        let bundle = try await fixture.open()
        #expect(bundle.components == [.textEncoder, .unet, .vaeDecoder, .vaeEncoder])
        #expect(
            try bundle.files(of: .unet, for: .coreml).map(\.url.lastPathComponent)
                == [prefix + "unet_chunk1.mlpackage", prefix + "unet_chunk2.mlpackage"])
    }

    @Test func prefersCompiledFilesAndChunks() async throws {
        let fixture = try AppleFixture.sd15(changing: [
            "TextEncoder.mlpackage": AppleInterfaces.interface([:], [:]),
            "UnetChunk1.mlmodelc": AppleInterfaces.chunk(1, of: 2),
            "UnetChunk2.mlmodelc": AppleInterfaces.chunk(2, of: 2),
            "UnetRefiner.mlmodelc": AppleInterfaces.unet(),
            "ControlledUnet.mlmodelc": AppleInterfaces.unet(),
        ])
        let bundle = try await fixture.open()
        #expect(
            try bundle.files(of: .textEncoder, for: .coreml).map(\.url.lastPathComponent)
                == ["TextEncoder.mlmodelc"])
        #expect(try bundle.files(of: .unet, for: .coreml).count == 2)
    }

    @Test func usesAWholeUNetWhereAChunkIsMissing() async throws {
        let fixture = try AppleFixture.sd15(changing: [
            "UnetChunk1.mlmodelc": AppleInterfaces.chunk(1, of: 2),
        ])
        let files = try await fixture.open().files(of: .unet, for: .coreml)
        #expect(files.map(\.url.lastPathComponent) == ["Unet.mlmodelc"])
    }

    @Test func takesAVAEEncoderOfTodaysForm() async throws {
        let fixture = try AppleFixture.sd15(changing: ["VAEEncoder.mlmodelc": AppleInterfaces.encoder])
        #expect(try await fixture.open().components.contains(.vaeEncoder))
    }

    @Test func leavesOutAVAEEncoderThatAddsTheNoiseItself() async throws {
        let old = AppleInterfaces.interface(
            [
                "sample": [1, 3, 512, 512], "diagonal_noise": [1, 4, 64, 64], "noise": [1, 4, 64, 64],
                "sqrt_alphas_cumprod": [1], "sqrt_one_minus_alphas_cumprod": [1],
            ], ["latent_dist": [1, 4, 64, 64]])
        let fixture = try AppleFixture.sd15(changing: ["VAEEncoder.mlmodelc": old])
        #expect(try await fixture.open().components == [.textEncoder, .unet, .vaeDecoder])
    }

    @Test func opensOurBundlesByTheirManifest() async throws {
        let small = try SmallBundle()
        #expect(!AppleBundle.isHere(small.url))
        let bundle = try await AppleBundle.open(small.url, backend: DescribingBackend(interfaces: [:]))
        #expect(bundle.manifest == (try ModelBundle(at: small.url)).manifest)
        // Also where the manifest is damaged: our files have the same names.
        try small.folder.write("manifest.json", "{")
        await #expect(throws: DiffusionError.corruptedManifest(reason: "not JSON, at byte 1")) {
            try await AppleBundle.open(small.url, backend: DescribingBackend(interfaces: [:]))
        }
    }
}
