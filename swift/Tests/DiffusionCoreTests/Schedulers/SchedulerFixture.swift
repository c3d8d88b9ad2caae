import DiffusionTestSupport
import Testing

@testable import DiffusionCore

/// What diffusers' schedulers gave: tests/fixtures/schedulers.json.
struct SchedulerFixture: Decodable {
    var seed: UInt32
    /// Of what the network reads in what it gives.
    var feedback: Float
    var predictions: [[Float]]
    var configs: [String: JSONValue]
    var trajectories: [Trajectory]
    var images: [Image]
    var starts: [Start]

    /// A picture from noise.
    struct Trajectory: Decodable, CustomTestStringConvertible {
        var name: SchedulerName
        var config: String
        /// In place of the config's own.
        var settings: [String: JSONValue]
        var steps: Int
        var timesteps: [Float]
        var initial_noise_scale: Float
        /// Empty where all are 1.
        var input_scales: [Float]
        /// The steps whose latents are stored.
        var kept: [Int]
        var latents: [[Float]]
        /// The same in fp64, where diffusers' fp32 leaves too few digits; else empty.
        var exact: [[Float]]

        var testDescription: String { "\(name.rawValue), \(config) \(settings), \(steps) steps" }
    }

    /// A picture from a picture.
    struct Image: Decodable {
        var name: SchedulerName
        var config: String
        var steps: Int
        var strength: Float
        var begin: Int
        var start: [Float]
        var last: [Float]
    }

    struct Start: Decodable {
        var steps: Int
        var strength: Float
        var begin: Int
    }

    static func load() throws -> SchedulerFixture { try Fixtures.load("schedulers") }

    func config(_ name: String, _ settings: [String: JSONValue] = [:]) throws -> SchedulerConfig {
        guard case .object(let table) = configs[name] else {
            throw DiffusionError.corruptedManifest(reason: name)
        }
        return try SchedulerConfig(.object(table.merging(settings) { $1 }))
    }

    /// All latents from the first step that is taken, with the fixture's stand-in for the network.
    func run(
        _ scheduler: any Scheduler, from start: [Float], noise source: any RandomSource, begin: Int = 0
    ) -> [[Float]] {
        let noise = Drawn(source)
        var (scheduler, latent, trail) = (scheduler, start, [[Float]]())
        for step in begin..<scheduler.timesteps.count {
            let scale = scheduler.inputScale(step: step)
            let prediction = zip(predictions[step - begin], latent).map { $0 + feedback * (scale * $1) }
            latent = scheduler.step(latent, prediction: prediction, step: step) { noise.next($0) }
            trail.append(latent)
        }
        return trail
    }

    /// A picture from noise: the latents, each step's.
    func trail(
        _ scheduler: any Scheduler, source name: RandomSourceName = .torch, seed: UInt32? = nil
    ) -> [[Float]] {
        var source = name.source(seed: seed ?? self.seed)
        let noise = source.normal(predictions[0].count).map { $0 * scheduler.initialNoiseScale }
        return run(scheduler, from: noise, noise: source)
    }
}

/// A source that a closure can draw from.
private final class Drawn {
    private var source: any RandomSource

    init(_ source: any RandomSource) { self.source = source }

    func next(_ count: Int) -> [Float] { source.normal(count) }
}

/// `max |actual - expected| / max |expected|`.
func relativeError(_ actual: [Float], _ expected: [Float]) -> Double {
    guard actual.count == expected.count else { return .infinity }
    let error = zip(actual, expected).map { abs(Double($0) - Double($1)) }
    guard error.allSatisfy(\.isFinite) else { return .infinity }
    let peak = expected.map { abs(Double($0)) }.max() ?? 0
    return (error.max() ?? 0) / max(peak, 1e-30)
}
