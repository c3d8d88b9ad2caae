import DiffusionTestSupport
import Foundation
import Testing

@testable import DiffusionCore
@testable import ImageFiles

/// A trap ends the test process: that is how a fault shows. See ``FuzzRun`` for how to find it.
@Suite("Damaged input is used or refused, never a trap", .serialized)
struct FuzzTests {
    /// Neither all manifests nor none are refused: both ways are tried.
    private func expectBoth(_ opened: Int, share: Int) {
        let all = FuzzInputs.count * share / 100
        guard all >= 100 else { return }
        #expect(opened > all / 20 && opened < all - all / 20, "\(opened) of \(all) opened")
    }

    @Test func valuesOfTheManifest() throws {
        let fuzz = try ManifestFuzz()
        let encoder = JSONEncoder()
        var opened = 0
        try FuzzRun(name: "manifest-values", share: 35) { noise in
            var value = fuzz.manifestOfManyConditions
            for _ in 0...noise.next(below: 3) { value = noise.changed(value) }
            if try fuzz.open([UInt8](encoder.encode(value)), &noise) { opened += 1 }
        }
        expectBoth(opened, share: 35)
    }

    /// Only the pipeline changes, so that most manifests open and are gone on with.
    @Test func valuesOfTheScheduler() throws {
        let fuzz = try ManifestFuzz()
        let encoder = JSONEncoder()
        var opened = 0
        try FuzzRun(name: "scheduler-values", share: 15) { noise in
            guard let pipeline = fuzz.manifest["pipeline"], let scheduler = pipeline["scheduler"] else { return }
            var changed = scheduler
            for _ in 0...noise.next(below: 3) { changed = noise.changed(changed) }
            let value = fuzz.manifest.with(changed, at: [.string("pipeline"), .string("scheduler")])
            if try fuzz.open([UInt8](encoder.encode(value)), &noise) { opened += 1 }
        }
        expectBoth(opened, share: 15)
    }

    @Test func bytesOfTheManifest() throws {
        let fuzz = try ManifestFuzz()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let bytes = [UInt8](try encoder.encode(fuzz.manifest))
        let words = ["1e999", "-", "1e-999", "\"\\ud800\"", "null", "[[[[", "{\"a\":1,\"a\":2}", "\"", "9", "\u{0}"]
        var opened = 0
        try FuzzRun(name: "manifest-bytes", share: 20) { noise in
            if try fuzz.open(noise.damaged(bytes, words: words), &noise) { opened += 1 }
        }
        expectBoth(opened, share: 20)
    }

    @Test("bytes of the tokenizer's files", arguments: ["vocab.json", "merges.txt"])
    func tokenizer(name: String) throws {
        let folder = try TokenizerFolder(copying: TokenizerFixture.demoFolder)
        defer { folder.remove() }
        let url = folder.url.appendingPathComponent(name)
        let bytes = [UInt8](try Data(contentsOf: url))
        let words = ["99999999999999999999", "\\ud83d", "\"a\":1,", " ", "\n", "<|endoftext|>", "#version"]
        let facts = TokenizerFacts(bosTokenID: 1404, eosTokenID: 1405, padTokenID: 1405)
        try FuzzRun(name: name, share: 5) { noise in
            try Data(noise.damaged(bytes, words: words)).write(to: url)
            try orRefusal {
                let tokenizer = try CLIPTokenizer(folder: folder.url, facts: facts)
                let framed = tokenizer.frame("a zebra, on a blue background \u{1F600}")
                _ = tokenizer.decode(framed.ids)
                guard framed.ids.count == 77 else { throw FuzzRun.Failure(description: "\(framed.ids.count) ids") }
            }
        }
    }

    @Test func bytesOfPNGFiles() throws {
        let fixture = try PNGFixture.read()
        let files = fixture.pictures.sorted { $0.key < $1.key }.map { [UInt8]($0.value.png) }
            .filter { $0.count < 4000 }
        #expect(files.count > 10)
        try FuzzRun(name: "png", share: 20) { noise in
            var bytes = noise.damaged(noise.pick(files), words: ["IDAT", "PLTE", "iTXt", "\u{0}\u{0}"])
            if noise.next(below: 4) > 0 { withRightChecksums(&bytes) }
            try orRefusal { _ = try Picture(png: Data(bytes)) }
            try orRefusal { _ = try Picture.pngMetadata(Data(bytes)) }
        }
    }

    /// So that the damage is not found by a checksum alone.
    private func withRightChecksums(_ bytes: inout [UInt8]) {
        var position = 8
        while position + 12 <= bytes.count {
            let count = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
            guard count <= bytes.count - position - 12 else { return }
            let end = position + 8 + count
            let sum = CRC32.of(bytes[position + 4..<end])
            for index in 0..<4 { bytes[end + index] = UInt8(truncatingIfNeeded: sum >> (24 - 8 * UInt32(index))) }
            position = end + 4
        }
    }
}
