import Diffusion
import Foundation
import Testing

@testable import RunCommand

@Suite("The command line")
struct OptionsTests {
    private func options(_ arguments: String...) throws -> Options {
        guard case .draw(let options) = try parse(arguments) else { throw UsageError(description: "no drawing") }
        return options
    }

    private func refusal(_ arguments: String...) -> String? {
        #expect(throws: UsageError.self) { try parse(arguments) }?.description
    }

    @Test func needsOnlyAPrompt() throws {
        var expected = Options()
        expected.prompt = "a zebra"
        #expect(try options("a zebra") == expected)
    }

    @Test func readsEveryOption() throws {
        let read = try options(
            "--bundle", "x.bundle", "--backend", "litert", "--library", "/l.so", "--accelerator", "gpu",
            "--threads", "2", "--compute-units", "cpu-and-ne", "--memory-policy", "chunk-by-chunk",
            "--no-check", "--negative", "fog", "--steps=8", "--guidance", "2.5", "--seed", "4294967295",
            "--scheduler", "euler-a", "--random-source", "cuda", "--size", "512x768", "--start-image",
            "a.png", "--strength", "0.25", "-n", "3", "-o", "out.png", "--json", "a zebra")
        #expect(read.prompt == "a zebra")
        #expect(read.bundle.lastPathComponent == "x.bundle")
        #expect(read.backend == .litert)
        #expect(read.settings.library?.path == "/l.so")
        #expect(read.settings.accelerator == .gpu && read.settings.threads == 2)
        #expect(read.settings.computeUnits == .cpuAndNeuralEngine)
        #expect(read.memoryPolicy == .chunkByChunk && read.checking == .nothing)
        #expect(read.negativePrompt == "fog" && read.steps == 8 && read.guidance == 2.5)
        #expect(read.seed == 4_294_967_295 && read.scheduler == .eulerAncestral)
        #expect(read.randomSource == .cuda && read.size == ImageSize(height: 512, width: 768))
        #expect(read.startImage?.lastPathComponent == "a.png" && read.strength == 0.25)
        #expect(read.count == 3 && read.output?.lastPathComponent == "out.png" && read.json)
    }

    @Test func aPromptMayLookLikeAnOption() throws {
        #expect(try options("--", "--a zebra").prompt == "--a zebra")
        #expect(try options("-").prompt == "-")
    }

    @Test func refusesMistakesInOneLineThatNamesThem() {
        #expect(refusal()?.contains("prompt is empty") == true)
        #expect(refusal("a", "zebra")?.contains("put it in quotes") == true)
        #expect(refusal("a", "--stepz", "3")?.contains("no option --stepz") == true)
        #expect(refusal("a", "--steps")?.contains("--steps needs a value") == true)
        #expect(refusal("a", "--steps", "many")?.contains("--steps many") == true)
        #expect(refusal("a", "--seed", "-1")?.contains("--seed -1") == true)
        #expect(refusal("a", "--scheduler", "dmp")?.contains("choose from dpm++") == true)
        #expect(refusal("a", "--size", "512")?.contains("height x width") == true)
        #expect(refusal("a", "--count", "0")?.contains("from 1") == true)
        #expect(refusal("a", "--json=yes")?.contains("takes no value") == true)
    }

    @Test func helpIsAsWritten() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("help.txt")
        #expect(try String(contentsOf: file, encoding: .utf8) == helpText + "\n")
        #expect(try parse(["a zebra", "--help"]) == .help)
        #expect(try parse(["--version"]) == .version)
    }

    @Test func theFileIsNamedAfterThePrompt() throws {
        #expect(outputURL(try options("A zebra, on blue!"), number: 0).lastPathComponent == "a-zebra--on-blue.png")
        #expect(outputURL(try options("!!"), number: 0).lastPathComponent == "picture.png")
        #expect(outputURL(try options("x", "-n", "2", "-o", "a/b.png"), number: 1).relativePath.hasSuffix("a/b-2.png"))
    }

    @Test func mistakesOfTheUserEndWithTwoAndOthersWithOne() {
        #expect(Failure(UsageError(description: "x")) == Failure(UsageError(description: "x")))
        #expect(Failure(UsageError(description: "x")).status == 2)
        #expect(Failure(DiffusionError.corruptedFile(name: "Unet.tflite")).status == 2)
        #expect(Failure(DiffusionError.notFinite(.unet)).status == 1)
        let lines = [
            DiffusionError.corruptedFile(name: "Unet.tflite"), .notFinite(.unet),
            .unsupportedSize(available: [ImageSize(height: 1, width: 2)]),
        ].map { Failure($0).line }
        #expect(lines.allSatisfy { !$0.contains("\n") && $0.contains(";") }, "what, and what to do")
    }
}
