import DiffusionTestSupport
import Testing

@testable import DiffusionCore

/// Every scheduler on every config, as diffusers and the Python side have it:
/// tests/fixtures/scheduler_table.json.
@Suite struct SchedulerTableTests {
    private let table: SchedulerTable
    private let fixture: SchedulerFixture

    init() throws {
        table = try Fixtures.load("scheduler_table")
        fixture = try SchedulerFixture.load()
    }

    private func scheduler(_ pair: SchedulerTable.Pair, steps: Int) throws -> any Scheduler {
        let config = try SchedulerConfig(#require(table.configs[pair.config]))
        return try pair.name.scheduler(config: config, steps: steps)
    }

    @Test func holdsEveryPair() {
        #expect(table.configs.count >= 100)
        #expect(table.pairs.count == table.configs.count * SchedulerName.allCases.count)
    }

    @Test(arguments: SchedulerName.allCases)
    func whatIsSupportedGivesTheNumbersOfDiffusers(name: SchedulerName) throws {
        for pair in table.pairs where pair.name == name {
            for run in pair.runs ?? [] {
                let scheduler = try scheduler(pair, steps: run.steps)
                let comment = Comment(rawValue: "\(name.rawValue), \(pair.config), \(run.steps) steps")
                #expect(relativeError(scheduler.timesteps, run.timesteps) <= 1e-6, comment)
                let last = fixture.trail(scheduler, seed: table.seed).last ?? []
                #expect(relativeError(last, run.last) <= 1e-5, comment)
            }
        }
    }

    @Test(arguments: SchedulerName.allCases)
    func whatIsRefusedNamesTheSameKey(name: SchedulerName) throws {
        for pair in table.pairs where pair.name == name {
            guard let key = pair.refused else { continue }
            let comment = Comment(rawValue: "\(name.rawValue), \(pair.config)")
            let error = #expect(throws: DiffusionError.self, comment) { try scheduler(pair, steps: 5) }
            guard case .unsupportedScheduler(let reason) = error else {
                Issue.record("\(comment): \(String(describing: error))")
                continue
            }
            #expect(reason.hasPrefix("scheduler \(name.rawValue): the model's \(key) "), comment)
        }
    }

    /// What the comparison would catch.
    @Test func anotherConfigIsNoticed() throws {
        let pair = try #require(table.pairs.first { $0.name == .ddim && $0.config == "clip_sample True" })
        let run = try #require(pair.runs?.last)
        var other = pair
        other.config = "SD 1.4, 1.5"
        let last = fixture.trail(try scheduler(other, steps: run.steps), seed: table.seed).last ?? []
        #expect(relativeError(last, run.last) > 1e-3)
    }
}

private struct SchedulerTable: Decodable {
    var seed: UInt32
    var configs: [String: JSONValue]
    var pairs: [Pair]

    struct Pair: Decodable {
        var name: SchedulerName
        var config: String
        /// The config's key, where the scheduler cannot honour it.
        var refused: String?
        var runs: [Run]?
    }

    struct Run: Decodable {
        var steps: Int
        var timesteps: [Float]
        var last: [Float]
    }
}
