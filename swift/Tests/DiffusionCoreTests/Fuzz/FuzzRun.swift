import DiffusionTestSupport
import Foundation

@testable import DiffusionCore

/// One kind of damaged inputs; ``FuzzInputs`` says how many and which.
///
/// A trap ends the process, so the number of an input is written down before it is tried, to a file
/// that the test names as it begins.
struct FuzzRun {
    let name: String
    /// Of 100 inputs.
    let share: Int

    /// - Parameter body: tries one input; it throws where something else than a refusal comes.
    func callAsFunction(_ body: (inout Noise) throws -> Void) throws {
        let note = FileManager.default.temporaryDirectory.appendingPathComponent(
            "fuzz-\(name)-\(ProcessInfo.processInfo.processIdentifier).txt")
        let count = max(1, FuzzInputs.count * share / 100)
        print("fuzz \(name): inputs \(FuzzInputs.first) to \(FuzzInputs.first + count - 1); \(note.path) names the last")
        try Data().write(to: note)
        let file = try FileHandle(forWritingTo: note)
        defer { try? file.close() }
        for number in FuzzInputs.first..<FuzzInputs.first + count {
            try file.seek(toOffset: 0)
            try file.write(contentsOf: Data("\(number)\n".utf8))
            var noise = Noise(state: UInt64(number) &* 0x9E37_79B9_7F4A_7C15 ^ 0x5851_F42D_4C95_7F2D)
            do {
                try body(&noise)
            } catch {
                throw Failure(description: "fuzz \(name), input \(number): \(error)")
            }
        }
        try FileManager.default.removeItem(at: note)
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }
}

/// Run `work`; a refusal is as good as an answer.
func orRefusal(_ work: () throws -> Void) throws {
    do {
        try work()
    } catch let error as DiffusionError {
        // Every refusal can be told on one line.
        guard !error.description.isEmpty, !error.description.contains("\n") else {
            throw FuzzRun.Failure(description: "a refusal of several lines: \(error.description)")
        }
    }
}

extension Noise {
    mutating func pick<Value>(_ values: [Value]) -> Value { values[next(below: values.count)] }

    /// Bytes with a few changed, taken out, doubled or moved.
    mutating func damaged(_ bytes: [UInt8], words: [String] = []) -> [UInt8] {
        var bytes = bytes
        for _ in 0...next(below: 3) where !bytes.isEmpty {
            let place = next(below: bytes.count)
            let end = min(bytes.count, place + 1 + next(below: 40))
            switch next(below: words.isEmpty ? 6 : 7) {
            case 0: bytes[place] ^= 1 << UInt8(next(below: 8))
            case 1: bytes[place] = UInt8(next(below: 256))
            case 2: bytes.removeSubrange(place..<end)
            case 3: bytes.insert(contentsOf: bytes[place..<end], at: place)
            case 4: bytes.removeSubrange(place...)
            case 5: bytes[place] = pick([0, 1, 0x7F, 0x80, 0xFF])
            default: bytes.replaceSubrange(place..<end, with: Array(pick(words).utf8))
            }
        }
        return bytes
    }
}
