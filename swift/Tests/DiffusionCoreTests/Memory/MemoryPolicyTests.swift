import DiffusionTestSupport
import Foundation
import Testing

@testable import DiffusionCore

@Suite("The choice of a memory policy")
struct MemoryPolicyTests {
    /// Text encoder, a UNet in three chunks, and a decoder: 700 in all, 500 at most, 300 in a file.
    static let files = [[150], [100, 300, 100], [50]]

    @Test(arguments: [(MemoryPolicy.allResident, 710), (.stageByStage, 510), (.chunkByChunk, 310)])
    func peakIsWhatIsLoadedAtOnceAndTheActivations(policy: MemoryPolicy, bytes: Int) {
        #expect(policy.peakBytes(residentBytes: Self.files, activationBytes: 10) == bytes)
    }

    @Test("takes the first that fits into 70 %, to the byte", arguments: [
        // With activations of 0 the peaks are 700, 500 and 300; 70 % of 715 is 500.5.
        (1000, MemoryPolicy.allResident), (999, .stageByStage), (715, .stageByStage),
        (714, .chunkByChunk), (429, .chunkByChunk), (428, .chunkByChunk), (0, .chunkByChunk),
        (-1, .chunkByChunk), (Int.max, .allResident),
    ])
    func threshold(available: Int, policy: MemoryPolicy) {
        let chosen = MemoryPolicy.suited(
            residentBytes: Self.files, activationBytes: 0, available: available)
        #expect(chosen == policy)
    }

    @Test func activationsCountToo() {
        let chosen = MemoryPolicy.suited(residentBytes: Self.files, activationBytes: 1, available: 1000)
        #expect(chosen == .stageByStage)
    }

    @Test func moreMemoryNeverGivesAStricterPolicy() {
        let order = MemoryPolicy.allCases
        for files in [Self.files, [[1, 1, 1]], [[5], [5]], [[0]], []] {
            let peaks = order.map { $0.peakBytes(residentBytes: files, activationBytes: 7) }
            #expect(peaks == peaks.sorted(by: >))
            let ranks = (0..<1200).compactMap { available in
                order.firstIndex(
                    of: .suited(residentBytes: files, activationBytes: 7, available: available))
            }
            #expect(ranks == ranks.sorted(by: >))
        }
    }

    @Test func readsABundlesNumbers() throws {
        let manifest = try JSONDecoder().decode(Manifest.self, from: BundleFixtures.demoManifest())
        let demo = ModelBundle(url: URL(fileURLWithPath: "/demo"), manifest: manifest)
        let coreml = [[1_263_040], [2_004_288, 2_381_376], [1_280_448], [779_840]]
        #expect(try demo.residentBytes(for: .coreml) == coreml)
        #expect(try demo.residentBytes(for: .tflite)[1] == [2 * 5_804_416])
        #expect(demo.activationBytes == 67_108_864 + 64 * 64 * 2048)
        #expect(try MemoryPolicy.suited(to: demo, target: .coreml, available: 1 << 30) == .allResident)
        // 70 % of the peaks: 83,206,464 all, 79,883,136 by stages, 77,878,848 by chunks.
        #expect(try MemoryPolicy.suited(to: demo, target: .coreml, available: 118_000_000) == .stageByStage)
        #expect(try MemoryPolicy.suited(to: demo, target: .coreml, available: 114_000_000) == .chunkByChunk)
    }

    @Test func needsFilesForTheTarget() throws {
        let small = try SmallBundle()
        let bundle = try ModelBundle(at: small.url)
        #expect(throws: DiffusionError.missingTarget(.tflite, held: [.coreml])) {
            try MemoryPolicy.suited(to: bundle, target: .tflite)
        }
    }
}

@Suite("Memory that Linux says is available")
struct LinuxMemoryTests {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try folder.write(
            "proc/meminfo", "MemTotal:  8000 kB\nMemFree:  100 kB\nMemAvailable:   5000 kB\n")
    }

    private var available: Int? { LinuxMemory(root: folder.url).available }

    @Test func isMemAvailableWithoutControlGroups() {
        #expect(available == 5000 * 1024)
    }

    @Test func isUnknownWhereNothingSaysIt() throws {
        #expect(LinuxMemory(root: try TemporaryFolder().url).available == nil)
    }

    @Test func isWhatTheGroupLeavesWithUnusedCacheOnTop() throws {
        try folder.write("proc/self/cgroup", "0::/app.slice/app\n")
        try group("sys/fs/cgroup/app.slice/app", limit: "1000000", used: 300_000, cache: 100_000)
        #expect(available == 800_000)
    }

    @Test func isHeldByTheNarrowestAncestor() throws {
        try folder.write("proc/self/cgroup", "0::/app.slice/app\n")
        try group("sys/fs/cgroup/app.slice/app", limit: "max", used: 300_000, cache: 0)
        #expect(available == 5000 * 1024)
        try group("sys/fs/cgroup/app.slice", limit: "500000", used: 300_000, cache: 0)
        #expect(available == 200_000)
        try group("sys/fs/cgroup", limit: "400000", used: 300_000, cache: 0)
        #expect(available == 100_000)
        try group("sys/fs/cgroup", limit: "400000", used: 500_000, cache: 0)
        #expect(available == 0)
    }

    @Test func readsVersionOneToo() throws {
        try folder.write("proc/self/cgroup", "5:cpu:/a\n4:hugetlb,memory:/a\n0::/\n")
        let path = "sys/fs/cgroup/memory/a/memory"
        try folder.write(path + ".limit_in_bytes", "900000\n")
        try folder.write(path + ".usage_in_bytes", "400000\n")
        try folder.write(path + ".stat", "inactive_file 7\ntotal_inactive_file 50000\n")
        #expect(available == 550_000)
        // No limit is a very large number there.
        try folder.write(path + ".limit_in_bytes", "9223372036854771712\n")
        #expect(available == 5000 * 1024)
    }

    @Test func isBelowThePhysicalMemoryHere() {
        #expect(AvailableMemory.bytes > 1 << 20)
        #expect(AvailableMemory.bytes <= Int(ProcessInfo.processInfo.physicalMemory))
    }

    private func group(_ path: String, limit: String, used: Int, cache: Int) throws {
        try folder.write(path + "/memory.max", limit + "\n")
        try folder.write(path + "/memory.current", "\(used)\n")
        try folder.write(path + "/memory.stat", "anon 1\ninactive_file \(cache)\nactive_file 2\n")
    }
}
