import DiffusionCore
import DiffusionTestSupport
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
        let file = ModelFile.of(try folder.write("Net.tflite", content))
        do {
            await (try backend.load(file)).unload()
            return nil
        } catch let error as DiffusionError {
            return error
        }
    }

    private let damaged = DiffusionError.unusableFile(name: "Net.tflite", reason: "it is no whole .tflite")

    @Test("loads while it is sound") func control() async throws {
        #expect(try await error(for: sound) == nil)
    }

    @Test("is refused when it is missing, a folder or a pipe") func missing() async throws {
        let error = DiffusionError.missingFile(name: "Net.tflite")
        let url = folder.url.appendingPathComponent("Net.tflite")
        await #expect(throws: error) { try await backend.load(.of(url)) }
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        let other = DiffusionError.unusableFile(name: "Net.tflite", reason: "it is not a regular file")
        await #expect(throws: other) { try await backend.load(.of(url)) }
        try FileManager.default.removeItem(at: url)
        #expect(mkfifo(url.path, 0o600) == 0)
        await #expect(throws: other) { try await backend.load(.of(url)) }
    }

    @Test("is refused when it is empty, rubbish, or of another kind")
    func rubbish() async throws {
        var other = sound
        other.replaceSubrange(4..<8, with: Data("TFL4".utf8))
        let noise = Data((0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) })
        let marked = noise.prefix(4) + Data("TFL3".utf8) + noise
        for content in [Data(), Data("TFL3".utf8), noise, other, marked] {
            #expect(try await error(for: content) == damaged)
        }
    }

    @Test("is refused where tables point outside the file")
    func pointers() async throws {
        var root = sound
        root.replaceSubrange(0..<4, with: [0xff, 0xff, 0xff, 0x7f])
        #expect(try await error(for: root) == damaged)
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

    @Test("refuses tensors beyond all sizes", arguments: [
        ([], true), ([0, 4], true), ([2, 20, 4096, 4096], true), ([1 << 31], true), ([1 << 31, 2], false),
        ([1 << 31, 1 << 31, 1 << 31], false), ([Int](repeating: 1, count: 9), false),
    ])
    func tensors(shape: [Int], isReasonable: Bool) {
        #expect(TFLiteCheck.isReasonable(shape) == isReasonable)
    }

    /// Ten thousand graphs that are all one graph, of ten thousand tensors that are all one tensor.
    @Test("refuses tables that share one long list, at once") func shared() throws {
        var bytes: [UInt8] = []
        func put(_ value: Int) { bytes += (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
        let count = 10_000
        put(20)  // the model
        bytes += Array("TFL3".utf8)
        bytes += [10, 0, 8, 0, 0, 0, 0, 0, 4, 0, 0, 0]  // of its fields only the third, the graphs
        put(12)
        put(4)
        put(count)
        let graph = 32 + 4 * count + 8
        for index in 0..<count { put(graph - (32 + 4 * index)) }
        bytes += [6, 0, 8, 0, 4, 0, 0, 0]  // of a graph's fields only the first, its tensors
        put(8)
        put(4)
        put(count)
        let tensor = graph + 12 + 4 * count + 4
        for index in 0..<count { put(tensor - (graph + 12 + 4 * index)) }
        bytes += [4, 0, 4, 0]  // no fields
        put(4)
        #expect(bytes.count == tensor + 4)
        let start = ContinuousClock.now
        #expect(!isSound(bytes))
        #expect(ContinuousClock.now - start < .seconds(10))
    }
}

@Suite("Damaged tables of a .tflite, from a seed")
struct TFLiteFuzzTests {
    @Test("are found sound or not, within the file and soon") func fuzz() throws {
        let files = try Golden.names.map { [UInt8](try Golden.named($0).file) }
        let first = FuzzInputs.first
        let count = max(1, FuzzInputs.count / 2)
        print("fuzz tflite: inputs \(first) to \(first + count - 1)")
        var refused = 0
        for number in first..<first + count {
            var noise = Noise(state: UInt64(number) &* 0x9E37_79B9_7F4A_7C15 ^ 1)
            var bytes = files[noise.next(below: files.count)]
            for _ in 0...noise.next(below: 4) {
                let place = noise.next(below: bytes.count - 4) / 4 * 4
                let odd: [UInt32] = [0, 1, 4, 0x7FFF_FFFF, 0x8000_0000, .max, .max - 3, UInt32(bytes.count), 0xFFFF]
                let word = noise.next(below: 3) == 0
                    ? UInt32(truncatingIfNeeded: noise.next(below: 1 << 31)) : odd[noise.next(below: odd.count)]
                for index in 0..<4 { bytes[place + index] = UInt8(truncatingIfNeeded: word >> (8 * UInt32(index))) }
            }
            if noise.next(below: 10) == 0 { bytes.removeLast(noise.next(below: bytes.count)) }
            let start = ContinuousClock.now
            refused += bytes.withUnsafeBytes(TFLiteCheck.isSound) ? 0 : 1
            #expect(ContinuousClock.now - start < .seconds(10), "input \(number)")
        }
        #expect(refused > count / 4 && refused < count)
    }
}
