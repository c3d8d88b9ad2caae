import Foundation
import Testing

@testable import DiffusionCore

@Suite struct SchedulerTests {
    private let fixture: SchedulerFixture

    init() throws {
        fixture = try SchedulerFixture.load()
    }

    private func scheduler(_ run: SchedulerFixture.Trajectory) throws -> any Scheduler {
        try run.name.scheduler(config: fixture.config(run.config, run.settings), steps: run.steps)
    }

    private func error(_ trail: [[Float]], _ run: SchedulerFixture.Trajectory) -> Double {
        let expected = run.exact.isEmpty ? run.latents : run.exact
        guard trail.count == run.timesteps.count else { return .infinity }
        return zip(run.kept, expected).map { relativeError(trail[$0], $1) }.max() ?? .infinity
    }

    @Test(arguments: SchedulerName.allCases)
    func stepsAreThoseOfDiffusers(name: SchedulerName) throws {
        let runs = fixture.trajectories.filter { $0.name == name }
        #expect(runs.count >= 10)
        for run in runs {
            let error = try error(fixture.trail(scheduler(run)), run)
            #expect(error <= 1e-5, "\(run.testDescription)")
        }
    }

    /// From noise alone fp32 leaves few digits of the first latent; diffusers itself is that far off.
    @Test(arguments: [SchedulerName.euler, .eulerAncestral])
    func fromNoiseAloneStepsAreNearerToTheTruthThanDiffusers(name: SchedulerName) throws {
        let runs = fixture.trajectories.filter { $0.name == name && !$0.exact.isEmpty }
        #expect(runs.count >= 3)
        for run in runs {
            let theirs = zip(run.latents, run.exact).map(relativeError).max() ?? 0
            let ours = try error(fixture.trail(scheduler(run)), run)
            #expect(theirs < 1e-3)
            #expect(ours < max(theirs, 1e-6))
        }
    }

    @Test(arguments: SchedulerName.allCases)
    func timestepsAndScalesAreThoseOfDiffusers(name: SchedulerName) throws {
        for run in fixture.trajectories where run.name == name {
            let scheduler = try scheduler(run)
            let told = Comment(rawValue: run.testDescription)
            #expect(relativeError(scheduler.timesteps, run.timesteps) <= 1e-6, told)
            if run.timesteps.allSatisfy({ $0 == $0.rounded() }) {
                #expect(scheduler.timesteps == run.timesteps, told)
            }
            #expect(relativeError([scheduler.initialNoiseScale], [run.initial_noise_scale]) <= 1e-6, told)
            let scales = scheduler.timesteps.indices.map { scheduler.inputScale(step: $0) }
            let expected =
                run.input_scales.isEmpty ? scales.map { _ in 1 } : run.input_scales
            #expect(relativeError(scales, expected) <= 1e-6, told)
        }
    }

    @Test(arguments: SchedulerName.allCases)
    func picturesStartWhereDiffusersStartsThem(name: SchedulerName) throws {
        let images = fixture.images.filter { $0.name == name }
        #expect(images.count >= 5)
        for image in images {
            let scheduler = try name.scheduler(config: fixture.config(image.config), steps: image.steps)
            let begin = ImageToImageStart.startStep(steps: image.steps, strength: image.strength)
            #expect(begin == image.begin)
            var source = RandomSourceName.torch.source(seed: fixture.seed)
            let noise = source.normal(image.start.count)
            let start = scheduler.addNoise(to: fixture.predictions[50], noise: noise, step: begin)
            #expect(relativeError(start, image.start) <= 1e-6)
            let last = fixture.run(scheduler, from: start, noise: source, begin: begin).last
            let error = relativeError(last ?? [], image.last)
            #expect(error <= 1e-5, "\(name.rawValue), \(image.steps) steps at \(image.strength)")
        }
    }

    @Test func strengthCountsStepsAsDiffusersDoes() {
        for start in fixture.starts {
            #expect(ImageToImageStart.startStep(steps: start.steps, strength: start.strength) == start.begin)
        }
        #expect(fixture.starts.count >= 100)
        #expect(ImageToImageStart.startStep(steps: 50, strength: 0.7) == 15)
        #expect(50 - Int(50 * Float(0.7).nextDown) == 16, "what fp32 digits would give")
    }

    // What the comparison would catch.

    @Test(arguments: SchedulerName.allCases)
    func anotherSchedulerIsNoticed(name: SchedulerName) throws {
        let others = SchedulerName.allCases.filter { $0 != name && $0 != .flowMatchEuler }
        let config = name == .flowMatchEuler ? "no settings" : "demo"
        let run = try #require(
            fixture.trajectories.first { $0.name == name && $0.config == config && $0.steps == 20 })
        for other in others {
            let scheduler = try other.scheduler(config: fixture.config(run.config), steps: run.steps)
            #expect(error(fixture.trail(scheduler), run) > 1e-3, "\(other.rawValue)")
        }
    }

    @Test(arguments: [
        ("Karras", "use_karras_sigmas", JSONValue.bool(false), SchedulerName.dpmSolver),
        ("Karras", "use_karras_sigmas", .bool(false), .euler),
        ("SD 1.5", "timestep_spacing", .string("linspace"), .ddim),
        ("SD 1.5", "timestep_spacing", .string("trailing"), .pndm),
        ("SD 1.5", "prediction_type", .string("v_prediction"), .lcm),
        ("SD 1.5", "steps_offset", .integer(0), .ddim),
        ("alpha of one", "set_alpha_to_one", .bool(false), .ddim),
        ("noise alone at the end", "rescale_betas_zero_snr", .bool(false), .eulerAncestral),
        ("Heun", "solver_type", .string("midpoint"), .dpmSolver),
        ("cosine betas", "beta_schedule", .string("linear"), .tcd),
        ("other distillation", "original_inference_steps", .integer(50), .tcd),
        ("clipping", "clip_sample", .bool(false), .lcm),
        ("least sigma last", "final_sigmas_type", .string("zero"), .euler),
        ("third order", "solver_order", .integer(2), .uniPC),
        ("SD 3", "shift", .number(1), .flowMatchEuler),
    ])
    func anotherSettingIsNoticed(config: String, key: String, value: JSONValue, name: SchedulerName) throws {
        let run = try #require(
            fixture.trajectories.first { run in
                run.name == name && run.config == config && run.steps == 20
                    && (run.settings.isEmpty
                        || run.settings["timestep_spacing"] == .string("leading")
                            && run.settings["prediction_type"] == .string("epsilon"))
            })
        #expect(try error(fixture.trail(scheduler(run)), run) <= 1e-5)
        let changed = try fixture.config(config, run.settings.merging([key: value]) { $1 })
        let scheduler = try name.scheduler(config: changed, steps: run.steps)
        #expect(error(fixture.trail(scheduler), run) > 1e-4)
    }

    @Test(arguments: [SchedulerName.eulerAncestral, .lcm, .tcd])
    func otherNoiseInTheStepsIsNoticed(name: SchedulerName) throws {
        let run = try #require(fixture.trajectories.first { $0.name == name && $0.steps == 8 })
        let made = try scheduler(run)
        #expect(error(fixture.trail(made, seed: fixture.seed + 1), run) > 0.01)
        #expect(error(fixture.trail(made, source: .numpy), run) > 0.01)
    }

    @Test(arguments: [SchedulerName.dpmSolver, .pndm, .uniPC])
    func aCopyIsAFreshStart(name: SchedulerName) throws {
        let scheduler = try name.scheduler(config: fixture.config("SD 1.5"), steps: 6)
        #expect(fixture.trail(scheduler) == fixture.trail(scheduler))
    }
}
