import Diffusion
import Foundation

/// Progress for people on standard error, or events for programs on standard output.
struct Console {
    let json: Bool

    func show(_ event: GenerationEvent, seed: UInt32) throws {
        switch event {
        case .loading(let fraction):
            if json {
                Self.json(["event": "loading", "fraction": fraction])
            } else {
                Self.progress("loading \(Int((100 * fraction).rounded())) %")
            }
        case .step(let step, let count, _):
            if json {
                Self.json(["event": "step", "step": step, "of": count, "seed": Int(seed)])
            } else {
                Self.progress("seed \(seed): step \(step) of \(count)")
            }
        case .finished: break
        }
    }

    func written(_ target: URL, _ report: GenerationReport) {
        if json {
            let object = (try? JSONEncoder().encode(report)).flatMap { try? JSONSerialization.jsonObject(with: $0) }
            Self.json(["event": "finished", "path": target.path, "report": object ?? [:]])
            return
        }
        if !report.cutPrompt.isEmpty {
            Self.error("\nthe prompt is too long; cut off: \"\(report.cutPrompt)\"")
        }
        let steps = max(report.request.steps ?? 1, 1)
        let pace = String(format: "%.2f", report.seconds.denoise / Double(steps))
        Self.progress("\(pace) s per step, \(report.backend), \(report.memoryPolicy.rawValue)\n")
        print(target.path)
    }

    static func json(_ value: [String: Any]) {
        guard let data = try? JSONSerialization.data(withJSONObject: value, options: [.sortedKeys, .withoutEscapingSlashes])
        else { return }
        FileHandle.standardOutput.write(data + Data("\n".utf8))
    }

    static func error(_ line: String) {
        FileHandle.standardError.write(Data((line + "\n").utf8))
    }

    /// A line that the next one writes over, where a person is looking.
    private static func progress(_ line: String) {
        guard isatty(FileHandle.standardError.fileDescriptor) == 1 else { return }
        FileHandle.standardError.write(Data("\r\u{1B}[K\(line)".utf8))
    }
}
