import Diffusion
import Foundation

/// What the work beside the networks costs, and what a picture takes in memory.
enum Bench {
    static let help = """
        Usage: swift run -c release coreml-sd-bench [BUNDLE]

        Times the tokenizer, noise, schedulers and guidance on latents of 64x64 and 128x128; with a
        BUNDLE that holds .tflite files also the peak memory of each memory policy (each in its own
        process). Medians of \(rounds) rounds.
        """
    static let rounds = 9

    static func run(_ arguments: [String]) async -> Int32 {
        do {
            switch arguments.first {
            case "--help", "-h": print(help)
            case "--draw": try await MemoryBench.draw(Array(arguments.dropFirst()))
            case let bundle:
                try HostBench.run(vocabulary: bundle.map { URL(fileURLWithPath: $0) })
                if let bundle { try MemoryBench.run(bundle: URL(fileURLWithPath: bundle)) }
            }
            return 0
        } catch {
            FileHandle.standardError.write(Data("coreml-sd-bench: \(error)\n".utf8))
            return 2
        }
    }

    /// The median time of a call.
    static func median(of work: () throws -> Void) rethrows -> Duration {
        try work()
        let times = try (0..<rounds).map { _ in try ContinuousClock().measure(work) }
        return times.sorted()[rounds / 2]
    }

    static func line(_ name: String, _ value: String) {
        print(name.padding(toLength: 48, withPad: " ", startingAt: 0) + value)
    }
}
