import FileDigests
import Foundation
import Testing

@testable import DiffusionCore

@Suite("An opened bundle")
struct ModelBundleTests {
    var small: SmallBundle

    init() throws { small = try SmallBundle() }

    @Test("opens with every kind of check", arguments: ModelBundle.FileCheck.allCases)
    func opens(check: ModelBundle.FileCheck) throws {
        let bundle = try ModelBundle(at: small.url, checking: check)
        #expect(bundle.components == [.textEncoder, .unet])
        #expect(bundle.targets == [.coreml, .tflite])
        #expect(bundle.sizes == [ImageSize(height: 48, width: 32)])
        #expect(bundle.vocabularyURL.lastPathComponent == "vocab.json")
        #expect(bundle.mergesURL.lastPathComponent == "merges.txt")
    }

    @Test func givesChunksInRunningOrder() throws {
        let files = try ModelBundle(at: small.url).files(of: .unet, for: .coreml)
        #expect(files.map(\.url.lastPathComponent) == ["UnetChunk1.mlpackage", "UnetChunk2.mlpackage"])
        #expect(files.map(\.weightBytes) == [4000, 6000])
        #expect(files.map(\.inputs) == [["sample"], ["hidden"]])
        #expect(files.map(\.outputs) == [["hidden"], ["noise_pred"]])
        #expect(files.allSatisfy { $0.component == .unet && $0.function == nil })
    }

    @Test func takesTheSizeOfFilesForWeightsThatNobodyCounted() throws {
        let files = try ModelBundle(at: small.url).files(of: .textEncoder, for: .coreml)
        #expect(files.map(\.weightBytes) == [3002])
    }

    @Test func givesDeclaredInputsAndOutputs() throws {
        let interface = try ModelBundle(at: small.url).interface(of: .unet)
        #expect(interface.inputs == ["sample": TensorInfo(shape: [2, 4, 6, 4], dtype: .float16)])
        #expect(interface.outputs == ["noise_pred": TensorInfo(shape: [2, 4, 6, 4], dtype: .float32)])
    }

    @Test func saysWhichComponentsAndTargetsItHolds() throws {
        let bundle = try ModelBundle(at: small.url)
        #expect(throws: DiffusionError.missingComponent(.vaeDecoder, held: [.textEncoder, .unet])) {
            try bundle.files(of: .vaeDecoder, for: .coreml)
        }
        #expect(throws: DiffusionError.missingTarget(.tflite, held: [.coreml])) {
            try bundle.files(of: .textEncoder, for: .tflite)
        }
    }

    @Test func passesOverTargetsThatItDoesNotKnow() throws {
        var small = small
        var components = try #require(small.json["components"] as? [String: Any])
        var encoder = try #require(components["text_encoder"] as? [String: Any])
        var files = try #require(encoder["files"] as? [[String: Any]])
        files.append(["path": "Unet.tflite", "target": "coreai", "inputs": [], "outputs": []])
        encoder["files"] = files
        components["text_encoder"] = encoder
        try small.set(components, at: "components")
        let bundle = try ModelBundle(at: small.url)
        #expect(bundle.targets == [.coreml, .tflite])
        #expect(try bundle.files(of: .textEncoder, for: .coreml).count == 1)
    }
}

@Suite("Sizes of a bundle")
struct BundleSizeTests {
    static let portrait = ImageSize(height: 48, width: 32)
    static let square = ImageSize(height: 64, width: 64)

    @Test func oneSizeNeedsNoFunction() throws {
        let small = try SmallBundle()
        let bundle = try ModelBundle(at: small.url)
        #expect(try bundle.latentSize() == ImageSize(height: 6, width: 4))
        #expect(try bundle.latentSize(for: Self.portrait) == ImageSize(height: 6, width: 4))
        #expect(throws: DiffusionError.unsupportedSize(available: [Self.portrait])) {
            try bundle.latentSize(for: Self.square)
        }
        #expect(throws: DiffusionError.unsupportedSize(available: [Self.portrait])) {
            try bundle.files(of: .unet, for: .coreml, size: ImageSize(height: 32, width: 48))
        }
    }

    @Test func severalSizesPickTheFunction() throws {
        var small = try SmallBundle()
        try small.set(
            [
                ["size": [64, 64], "latent_size": [8, 8], "function": "main_64x64"] as [String: Any],
                ["size": [48, 32], "latent_size": [6, 4], "function": "main_48x32"],
            ], at: "pipeline", "sizes")
        let bundle = try ModelBundle(at: small.url)
        #expect(bundle.sizes == [Self.square, Self.portrait])
        #expect(try bundle.latentSize() == ImageSize(height: 8, width: 8))
        let files = try bundle.files(of: .unet, for: .coreml, size: Self.portrait)
        #expect(files.map(\.function) == ["main_48x32", "main_48x32"])
        #expect(try bundle.files(of: .unet, for: .coreml).first?.function == "main_64x64")
        let other = ImageSize(height: 32, width: 32)
        #expect(throws: DiffusionError.unsupportedSize(available: [Self.square, Self.portrait])) {
            try bundle.latentSize(for: other)
        }
    }
}

@Suite("The hash of a model file")
struct ContentHashTests {
    private func hashes(_ small: SmallBundle) throws -> [String] {
        let bundle = try ModelBundle(at: small.url, checking: .nothing)
        return try bundle.files(of: .unet, for: .coreml).map(\.contentHash)
            + bundle.files(of: .textEncoder, for: .coreml).map(\.contentHash)
    }

    @Test func isTheSameForTheSameContentAndNoOther() throws {
        var small = try SmallBundle()
        let before = try hashes(small)
        #expect(before == (try hashes(SmallBundle())))
        #expect(Set(before).count == 3 && before.allSatisfy { $0.count == 64 })
        let other = SHA256Digest.hex(of: [1])
        try small.set(other, at: "files", "UnetChunk2.mlpackage/Data/weight.bin", "sha256")
        let after = try hashes(small)
        #expect(after[0] == before[0] && after[1] != before[1] && after[2] == before[2])
    }

    @Test func sumsUpTheFilesBelowThePathOnly() {
        let facts = FileFacts(sha256: String(repeating: "a", count: 64), bytes: 10)
        let files = ["A.mlpackage/x": facts, "A.mlpackage/y/z": facts, "A.mlpackage2/x": facts, "A": facts]
        let content = BundleContent(of: "A.mlpackage", in: files)
        #expect(content.bytes == 20)
        // Of "x\naaa...\ny/z\naaa...\n", by Python's hashlib.
        #expect(content.hash == "341c0db03529d54a65535a7d843f04259ba7915ee7097905203cb6dcd4c378ec")
        let renamed = ["B/x": facts, "B/y/z": facts]
        #expect(BundleContent(of: "B", in: renamed).hash == content.hash)
        let moved = ["B/x": facts, "B/y": facts]
        #expect(BundleContent(of: "B", in: moved).hash != content.hash)
        #expect(BundleContent(of: "C", in: files).hash.isEmpty)
    }
}
