import Diffusion
import Foundation

/// Peak resident memory of one picture under each memory policy, each in its own process.
enum MemoryBench {
    static func run(bundle: URL) throws {
        for policy in MemoryPolicy.allCases {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            process.arguments = ["--draw", bundle.path, policy.rawValue]
            try process.run()
            process.waitUntilExit()
        }
    }

    /// In the child: draw one picture, then print the peak.
    static func draw(_ arguments: [String]) async throws {
        guard arguments.count == 2, let policy = MemoryPolicy(rawValue: arguments[1]) else { return }
        let empty = peakBytes()
        let pipeline = try await DiffusionPipeline(
            bundle: URL(fileURLWithPath: arguments[0]), backend: .litert, memoryPolicy: policy)
        let weights = try pipeline.bundle.allFiles(for: .tflite).map(\.weightBytes)
        _ = try await pipeline.image(for: pipeline.bundle.pipeline.advice.prompts.first ?? "a castle")
        let grown = Double(peakBytes() - empty) / 1e6
        Bench.line(
            "peak memory, \(policy.rawValue)",
            String(format: "%.1f MB (weights %.1f MB)", grown, Double(weights.reduce(0, +)) / 1e6))
    }

    /// The most memory that this process has held.
    private static func peakBytes() -> Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line?.split(separator: " ").compactMap { Int($0) }.first ?? 0) * 1024
    }
}
