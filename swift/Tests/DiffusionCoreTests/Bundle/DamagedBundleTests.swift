import DiffusionTestSupport
import FileDigests
import Foundation
import Testing

@testable import DiffusionCore

@Suite("A damaged bundle is refused")
struct DamagedBundleTests {
    var small: SmallBundle

    init() throws { small = try SmallBundle() }

    private func refusal(_ check: ModelBundle.FileCheck = .checksums) -> DiffusionError? {
        do {
            _ = try ModelBundle(at: small.url, checking: check)
            return nil
        } catch {
            return error as? DiffusionError
        }
    }

    private func isCorruptedManifest(_ part: String) -> Bool {
        guard case .corruptedManifest(let reason)? = refusal(.nothing) else { return false }
        return reason.contains(part)
    }

    @Test func withoutAManifest() throws {
        try FileManager.default.removeItem(at: small.url.appendingPathComponent("manifest.json"))
        #expect(refusal(.nothing) == .notABundle(small.url))
        let nowhere = small.url.appendingPathComponent("nowhere")
        #expect(throws: DiffusionError.notABundle(nowhere)) { try ModelBundle(at: nowhere) }
        let file = small.url.appendingPathComponent("vocab.json")
        #expect(throws: DiffusionError.notABundle(file)) { try ModelBundle(at: file) }
    }

    @Test func withAManifestThatWasCutOff() throws {
        let url = small.url.appendingPathComponent("manifest.json")
        let data = try Data(contentsOf: url)
        try data.prefix(data.count / 2).write(to: url)
        #expect(isCorruptedManifest("not JSON"))
        try Data().write(to: url)
        #expect(isCorruptedManifest("not JSON"))
    }

    @Test mutating func withAManifestOfSomethingElse() throws {
        try small.set("another bundle", at: "format")
        #expect(isCorruptedManifest("another bundle"))
    }

    @Test("whose manifest lacks a key", arguments: ["pipeline", "components", "files", "format"])
    mutating func lacksKey(key: String) throws {
        try small.set(nil, at: key)
        #expect(isCorruptedManifest("lacks \(key)"))
    }

    @Test mutating func whoseManifestHasAValueOfAnotherType() throws {
        try small.set("two", at: "pipeline", "batch")
        #expect(isCorruptedManifest("pipeline.batch"))
        try small.set(2, at: "pipeline", "batch")
        try small.set([64], at: "pipeline", "size")
        #expect(isCorruptedManifest("[height, width]"))
        try small.set([64, 64], at: "pipeline", "size")
        try small.set(nil, at: "pipeline", "scaling_factor")
        #expect(isCorruptedManifest("lacks pipeline.scaling_factor"))
    }

    @Test mutating func fromANewerConverter() throws {
        try small.set(2, at: "manifest_version")
        // Whatever else a newer manifest says.
        try small.set("elsewhere", at: "components")
        #expect(refusal() == .newerManifest(version: 2, supported: 1))
    }

    /// Before anything that only the known families have is looked for.
    @Test mutating func ofAFamilyThatIsNotSupported() throws {
        try small.set(["family": "stable-diffusion-3"], at: "pipeline")
        guard case .unsupportedBundle(let reason)? = refusal() else {
            Issue.record("\(String(describing: refusal()))")
            return
        }
        #expect(reason.contains("\"stable-diffusion-3\"") && reason.contains("stable-diffusion"))
    }

    @Test mutating func ofStableDiffusionXLWithoutASecondTokenizer() throws {
        try small.set("stable-diffusion-xl", at: "pipeline", "family")
        #expect(isCorruptedManifest("lacks pipeline.tokenizer_2"))
        let second = ["bos_token_id": 5, "eos_token_id": 6, "pad_token_id": 0, "max_tokens": 77]
        try small.set(second, at: "pipeline", "tokenizer_2")
        try small.set(true, at: "pipeline", "zeros_for_empty_prompt")
        let facts = try ModelBundle(at: small.url).pipeline
        #expect(facts.tokenizer2?.padTokenID == 0 && facts.zerosForEmptyPrompt)
        let again = try JSONDecoder().decode(PipelineFacts.self, from: JSONEncoder().encode(facts))
        #expect(again == facts)
    }

    @Test func withAFileMissing() throws {
        let name = "UnetChunk1.mlpackage/Data/weight.bin"
        try FileManager.default.removeItem(at: small.url.appendingPathComponent(name))
        #expect(refusal(.checksums) == .missingFile(name: name))
        #expect(refusal(.sizes) == .missingFile(name: name))
        #expect(refusal(.nothing) == nil)
        try FileManager.default.createDirectory(
            at: small.url.appendingPathComponent(name), withIntermediateDirectories: true)
        #expect(refusal(.sizes) == .unusableFile(name: name, reason: "it is not a regular file"))
    }

    @Test("with one byte changed", arguments: [0, 2500, 4999])
    func oneByte(at index: Int) throws {
        let name = "UnetChunk1.mlpackage/Data/weight.bin"
        var bytes = Fixtures.pattern(5000)
        bytes[index] ^= 1
        try small.folder.write(name, bytes)
        #expect(refusal(.checksums) == .corruptedFile(name: name))
        #expect(refusal(.sizes) == nil)
        bytes[index] ^= 1
        try small.folder.write(name, bytes)
        #expect(refusal(.checksums) == nil)
    }

    @Test func withAFileCutOffOrGrown() throws {
        for length in [4999, 5001] {
            try small.folder.write(
                "UnetChunk1.mlpackage/Data/weight.bin", Fixtures.pattern(length))
            #expect(refusal(.sizes) == .corruptedFile(name: "UnetChunk1.mlpackage/Data/weight.bin"))
        }
    }

    @Test("with a path that leads out", arguments: [
        "../secret", "a/../../secret", "/etc/hostname", "a//b", "", ".", "./a", "a/",
    ])
    mutating func pathOut(path: String) throws {
        let good = small.json
        let hash = String(repeating: "0", count: 64)
        try small.set(["sha256": hash, "bytes": 1] as [String: Any], at: "files", path)
        #expect(isCorruptedManifest("leads out"))
        small.json = good
        try small.set(
            [["path": path, "target": "coreml", "inputs": [], "outputs": []] as [String: Any]],
            at: "components", "unet", "files")
        #expect(isCorruptedManifest("leads out"))
    }

    @Test func withALinkThatLeadsOut() throws {
        let outside = try TemporaryFolder()
        try outside.write("weight.bin", Fixtures.pattern(5000))
        let inside = small.url.appendingPathComponent("UnetChunk1.mlpackage/Data/weight.bin")
        try FileManager.default.removeItem(at: inside)
        try FileManager.default.createSymbolicLink(
            at: inside, withDestinationURL: outside.url.appendingPathComponent("weight.bin"))
        #expect(isCorruptedManifest("is a link"))
        let folder = small.url.appendingPathComponent("UnetChunk1.mlpackage/Data")
        try FileManager.default.removeItem(at: folder)
        try FileManager.default.createSymbolicLink(at: folder, withDestinationURL: outside.url)
        #expect(isCorruptedManifest("is a link"))
    }

    @Test func butLinksInsideAndALinkToTheBundleAreFine() throws {
        let inside = small.url.appendingPathComponent("UnetChunk1.mlpackage/Data/weight.bin")
        try FileManager.default.moveItem(at: inside, to: small.url.appendingPathComponent("blob"))
        try FileManager.default.createSymbolicLink(
            at: inside, withDestinationURL: small.url.appendingPathComponent("blob"))
        let elsewhere = try TemporaryFolder()
        let link = elsewhere.url.appendingPathComponent("link.bundle")
        try FileManager.default.createSymbolicLink(at: link, withDestinationURL: small.url)
        #expect(try ModelBundle(at: link).components == [.textEncoder, .unet])
        try FileManager.default.removeItem(at: inside)
        #expect(throws: DiffusionError.missingFile(name: "UnetChunk1.mlpackage/Data/weight.bin")) {
            try ModelBundle(at: link)
        }
    }

    @Test func whoseManifestWasChangedSinceItWasSealed() throws {
        func seal(_ hash: String) -> String { "\"manifest_sha256\": \"\(hash)\"" }
        let zeros = String(repeating: "0", count: 64)
        let url = small.url.appendingPathComponent("manifest.json")
        let plain = try String(contentsOf: url, encoding: .utf8)
        let unsealed = "{\(seal(zeros)), " + plain.dropFirst()
        let sealed = unsealed.replacingOccurrences(
            of: seal(zeros), with: seal(SHA256Digest.hex(of: Array(unsealed.utf8))))
        try small.folder.write("manifest.json", sealed)
        #expect(refusal() == nil)
        for changed in [
            unsealed, sealed.replacingOccurrences(of: "0.18215", with: "0.18216"),
            sealed.replacingOccurrences(of: "sha256\": \"", with: "sha256\":  \""),
        ] {
            try small.folder.write("manifest.json", changed)
            #expect(refusal() == .corruptedFile(name: "manifest.json"))
        }
        try small.folder.write("manifest.json", plain)
        #expect(refusal() == nil)
    }

    @Test func withAManifestThatIsTooLarge() throws {
        let url = small.url.appendingPathComponent("manifest.json")
        let file = try FileHandle(forWritingTo: url)
        try file.truncate(atOffset: UInt64(Limits.textBytes) + 1)
        #expect(refusal() == .unusableFile(name: "manifest.json", reason: "it is larger than 64 MB"))
        try file.truncate(atOffset: UInt64(Limits.textBytes))
        #expect(isCorruptedManifest("not JSON"))
    }

    @Test mutating func withFilesWhoseSizesAddUpToMoreThanAnInteger() throws {
        let hash = String(repeating: "0", count: 64)
        for name in ["weight.bin", "other.bin"] {
            try small.set(
                ["sha256": hash, "bytes": Int.max] as [String: Any], at: "files",
                "UnetChunk1.mlpackage/Data/\(name)")
        }
        #expect(isCorruptedManifest("files.UnetChunk1.mlpackage/Data/other.bin.bytes is"))
    }

    /// A number of files that is beyond the limit only together.
    @Test mutating func withTooManyFiles() throws {
        var files = try #require(small.json["files"] as? [String: Any])
        let facts = ["sha256": String(repeating: "0", count: 64), "bytes": 1] as [String: Any]
        for index in 0..<Limits.files - files.count { files["f\(index)"] = facts }
        try small.set(files, at: "files")
        #expect(refusal(.nothing) == nil)
        files["one more"] = facts
        try small.set(files, at: "files")
        #expect(isCorruptedManifest("files are more than"))
    }

    @Test mutating func withANetworkWhoseFileHasNoChecksum() throws {
        try small.set(nil, at: "files", "Unet.tflite")
        #expect(isCorruptedManifest("components.unet.files has Unet.tflite, which is not among"))
    }

    @Test mutating func withAHashThatIsNone() throws {
        try small.set("abc", at: "files", "Unet.tflite", "sha256")
        #expect(isCorruptedManifest("files.Unet.tflite.sha256 is not"))
    }

    @Test mutating func withAComponentWithoutFiles() throws {
        try small.set([[String: Any]](), at: "components", "unet", "files")
        #expect(isCorruptedManifest("components.unet.files is empty"))
    }
}
