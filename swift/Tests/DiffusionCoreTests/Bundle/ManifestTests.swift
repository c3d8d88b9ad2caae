import Foundation
import Testing

@testable import DiffusionCore

@Suite("The manifest that the converter writes")
struct ManifestTests {
    let manifest: Manifest

    init() throws {
        manifest = try JSONDecoder().decode(Manifest.self, from: BundleFixtures.demoManifest())
    }

    @Test func givesThePipelineFacts() {
        let facts = manifest.pipeline
        #expect(facts.family == "stable-diffusion")
        #expect(facts.predictionType == "v_prediction")
        #expect(facts.size == ImageSize(height: 64, width: 64))
        #expect(facts.latentSize == ImageSize(height: 16, width: 16))
        #expect(facts.latentChannels == 4)
        #expect(facts.vaeScaleFactor == 4)
        #expect(facts.scalingFactor == Float(0.5253232717514038))
        #expect(facts.shiftFactor == 0)
        #expect(facts.batch == 2)
        #expect(facts.maxTokens == 77)
        #expect(
            facts.tokenizer
                == TokenizerFacts(bosTokenID: 1404, eosTokenID: 1405, padTokenID: 1405, maxTokens: 77))
        #expect(facts.advice.guidance == 3)
        #expect(facts.advice.steps == 20)
        #expect(facts.advice.scheduler == .dpmSolver)
        #expect(facts.advice.prompts.count == 4)
        #expect(facts.preview?.weights.count == 4)
        #expect(facts.preview?.weights.last == [-0.12938, 0.47808, 0.35277])
        #expect(facts.preview?.bias == [0.2156, 0.15933, -0.0404])
        #expect(facts.sizes.isEmpty)
        let states = DenoiserFacts.TextOutput(component: .textEncoder, output: "last_hidden_state")
        #expect(
            facts.denoiser
                == DenoiserFacts(
                    component: .unet, guidance: .classifierFree,
                    conditions: ["encoder_hidden_states": .text([states])]))
    }

    @Test func whereNoDenoiserIsToldItIsThatOfTheTokenizers() throws {
        let text = try JSONDecoder().decode(JSONValue.self, from: BundleFixtures.demoManifest())
        let place = [JSONValue.string("pipeline"), .string("denoiser")]
        func facts(_ json: JSONValue) throws -> PipelineFacts {
            try JSONDecoder().decode(Manifest.self, from: JSONEncoder().encode(json)).pipeline
        }
        let untold = text.with(nil, at: place[...])
        #expect(try facts(untold) == manifest.pipeline)
        let second = text["pipeline"]?["tokenizer"]
        let two = untold.with(second, at: [.string("pipeline"), .string("tokenizer_2")])
        #expect(try facts(two).denoiser == .older(hasTwoTokenizers: true))
        #expect(try facts(two).denoiser.conditions["time_ids"] == .size)
        let novel = text.with(.string("novel"), at: [.string("pipeline"), .string("family")])
        #expect(try facts(novel).denoiser == manifest.pipeline.denoiser)
    }

    @Test func tellsWhichSchedulerIsTakenForTheModelsOwn() {
        #expect(manifest.schedulerNote == nil)
        var other = manifest
        other.notes = ["tflite: fp16", "scheduler: the nearest"]
        #expect(other.schedulerNote == "scheduler: the nearest")
    }

    @Test func givesTheFilesInRunningOrder() {
        let paths = manifest.components["unet"]?.files.filter { $0.target == "coreml" }.map(\.path)
        #expect(paths == ["UnetChunk1.mlpackage", "UnetChunk2.mlpackage"])
        #expect(manifest.files["Unet.tflite"]?.bytes == 6_786_208)
    }

    @Test func keepsTheSchedulerForItsOwnReader() throws {
        struct Betas: Decodable {
            var beta_start: Double
            var num_train_timesteps: Int
            var clip_sample: Bool
            var _class_name: String
        }
        let betas = try manifest.pipeline.scheduler.decode(as: Betas.self)
        #expect(betas.beta_start == 0.00085)
        #expect(betas.num_train_timesteps == 1000)
        #expect(!betas.clip_sample)
        #expect(betas._class_name == "DPMSolverMultistepScheduler")
        #expect(manifest.pipeline.scheduler["beta_schedule"] == .string("scaled_linear"))
        #expect(throws: DecodingError.self) { try manifest.pipeline.scheduler.decode(as: [Int].self) }
    }

    @Test func readsBackWhatItWrites() throws {
        var changed = manifest
        changed.pipeline.preview = PreviewFacts(weights: [[0.5, 0, -1]], bias: [0, 0.25, 1])
        changed.pipeline.sizes = [
            SizeFacts(
                size: ImageSize(height: 64, width: 96), latentSize: ImageSize(height: 16, width: 24),
                function: "main_64x96"),
        ]
        changed.pipeline.denoiser.guidance = .embedded
        changed.pipeline.denoiser.conditions["timestep_cond"] = .guidance(width: 256)
        changed.pipeline.denoiser.conditions["time_ids"] = .size
        changed.pipeline.zerosForEmptyPrompt = true
        let data = try JSONEncoder().encode(changed)
        #expect(try JSONDecoder().decode(Manifest.self, from: data) == changed)
        #expect(changed != manifest)
    }

    @Test("A JSON value keeps its kind", arguments: [
        "null", "true", "false", "0", "1", "-7", "0.5", "1e300", "\"a\"", "[]", "[1,2.5,[null]]",
        "{\"a\":{\"b\":[true]}}",
    ])
    func keepsKinds(text: String) throws {
        let value = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
        let again = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(value))
        #expect(value == again)
        if text == "true" { #expect(value == .bool(true)) }
        if text == "1" { #expect(value == .integer(1)) }
        if text == "0.5" { #expect(value == .number(0.5)) }
    }
}
