import DiffusionCore
import Foundation
import Testing

@testable import LiteRTDiffusion

@Suite("A damaged .tflite", TestLibrary.needed)
struct DamagedFileTests {
    let folder: TemporaryFolder
    let backend: LiteRTBackend
    let sound: Data

    init() throws {
        folder = try TemporaryFolder()
        backend = try .forTests()
        sound = try Golden.named("half").file
    }

    func error(for content: Data) async throws -> DiffusionError? {
        let file = ModelFile.of(try folder.file("Net.tflite", content))
        do {
            await (try backend.load(file)).unload()
            return nil
        } catch let error as DiffusionError {
            return error
        }
    }

    @Test("loads while it is sound") func control() async throws {
        #expect(try await error(for: sound) == nil)
    }

    @Test("is refused when it is missing or a folder") func missing() async throws {
        let error = DiffusionError.missingFile(name: "Net.tflite")
        let url = folder.url.appendingPathComponent("Net.tflite")
        await #expect(throws: error) { try await backend.load(.of(url)) }
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        await #expect(throws: error) { try await backend.load(.of(url)) }
    }

    @Test("is refused when it is empty, rubbish, or of another kind")
    func rubbish() async throws {
        let corrupted = DiffusionError.corruptedFile(name: "Net.tflite")
        var other = sound
        other.replaceSubrange(4..<8, with: Data("TFL4".utf8))
        let noise = Data((0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) })
        let marked = noise.prefix(4) + Data("TFL3".utf8) + noise
        for content in [Data(), Data("TFL3".utf8), noise, other, marked] {
            #expect(try await error(for: content) == corrupted)
        }
    }

    @Test("is refused where tables point outside the file")
    func pointers() async throws {
        var root = sound
        root.replaceSubrange(0..<4, with: [0xff, 0xff, 0xff, 0x7f])
        #expect(try await error(for: root) == .corruptedFile(name: "Net.tflite"))
        for end in stride(from: 8, to: sound.count - 64, by: 97) {
            #expect(try await error(for: sound.prefix(end)) != nil, "cut after \(end) bytes")
        }
    }
}

@Suite("The check of a .tflite's tables")
struct TFLiteCheckTests {
    func isSound(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes(TFLiteCheck.isSound) }

    @Test("finds sound files sound", arguments: Golden.names) func sound(name: String) throws {
        #expect(try isSound([UInt8](Golden.named(name).file)))
    }

    @Test("stands every cut and every flipped bit, and finds most", arguments: Golden.names)
    func flipped(name: String) throws {
        var bytes = [UInt8](try Golden.named(name).file)
        for count in 0..<bytes.count where isSound(Array(bytes[..<count])) {
            // What is left out at the end can only be padding.
            #expect(bytes[count...].allSatisfy { $0 == 0 }, "cut after \(count) bytes")
        }
        var refused = 0
        for place in bytes.indices {
            for bit in 0..<8 {
                bytes[place] ^= 1 << bit
                refused += isSound(bytes) ? 0 : 1
                bytes[place] ^= 1 << bit
            }
        }
        #expect(refused > 8 * bytes.count / 3)
        #expect(isSound(bytes))
    }
}
