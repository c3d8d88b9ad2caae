import Diffusion
import Foundation

/// Everything that runs on the host between two runs of a network.
enum HostBench {
    private static let steps = 20

    static func run(vocabulary: URL?) throws {
        for side in [64, 128] { try latents(side: side) }
        if let vocabulary { try tokenizer(vocabulary) }
    }

    private static func latents(side: Int) throws {
        let count = 4 * side * side
        for name in RandomSourceName.allCases {
            var source = name.source(seed: 1)
            report("noise, \(name.rawValue), \(side)x\(side)", Bench.median { _ = source.normal(count) })
        }
        var source = RandomSourceName.torch.source(seed: 1)
        let latent = source.normal(count)
        let prediction = source.normal(count)
        for name in SchedulerName.allCases {
            let fresh = try name.scheduler(config: SchedulerConfig(), steps: steps)
            let time = Bench.median {
                var scheduler = fresh
                for step in scheduler.timesteps.indices {
                    let scale = scheduler.inputScale(step: step)
                    _ = scale == 1 ? latent : latent.map { $0 * scale }
                    let both = Guidance.combine(unconditional: latent, conditional: prediction, scale: 7.5)
                    _ = scheduler.step(latent, prediction: both, step: step) { source.normal($0) }
                }
            }
            report("guidance and step, \(name.rawValue), \(side)x\(side)", time / fresh.timesteps.count)
        }
    }

    private static func tokenizer(_ folder: URL) throws {
        let bundle = try ModelBundle(at: folder, checking: .nothing)
        let tokenizer = try CLIPTokenizer(folder: folder, facts: bundle.pipeline.tokenizer)
        let prompts = (0..<200).map { "a photo of a very small zebra number \($0) on a blue background, detailed" }
        let time = Bench.median { for prompt in prompts { _ = tokenizer.frame(prompt) } }
        Bench.line("tokenizer", String(format: "%.0f prompts/s", Double(prompts.count) / (time / .seconds(1))))
    }

    private static func report(_ name: String, _ time: Duration) {
        Bench.line(name, String(format: "%.3f ms", time / .milliseconds(1)))
    }
}
