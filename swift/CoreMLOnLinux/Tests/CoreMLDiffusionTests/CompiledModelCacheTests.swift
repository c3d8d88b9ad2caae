import CoreML
import DiffusionCore
import Foundation
import Testing

@testable import CoreMLDiffusionOnLinux

/// A package is compiled once for its content and the build of the operating system.
@Suite struct CompiledModelCacheTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    @Test func aSecondLoadUsesWhatIsThere() async throws {
        let file = try bench.file()
        for _ in 1...3 { await (try bench.backend().load(file)).unload() }
        #expect(bench.compiles == 1)
        #expect(bench.loads.count == 3)
        #expect(try bench.entries == ["23A1/abc"])
    }

    @Test func anotherContentCompilesAgainAndReplacesTheOld() async throws {
        await (try bench.backend().load(try bench.file(hash: "old"))).unload()
        await (try bench.backend().load(try bench.file(hash: "new"))).unload()
        #expect(bench.compiles == 2)
        #expect(try bench.entries == ["23A1/new"])
    }

    @Test func aPipeInPlaceOfARecordIsNotReadFrom() async throws {
        await (try bench.backend().load(try bench.file(hash: "old"))).unload()
        let record = CompiledModel(
            entry: bench.cache().folder.appendingPathComponent("23A1/old"), isOld: true).record
        try FileManager.default.removeItem(at: record)
        #expect(mkfifo(record.path, 0o600) == 0)
        await (try bench.backend().load(try bench.file(hash: "new"))).unload()
        #expect(try bench.entries == ["23A1/new", "23A1/old"])
    }

    @Test func contentsOfOtherFilesStay() async throws {
        await (try bench.backend().load(try bench.file(name: "UnetChunk1.mlpackage", hash: "1"))).unload()
        await (try bench.backend().load(try bench.file(name: "UnetChunk2.mlpackage", hash: "2"))).unload()
        #expect(try bench.entries == ["23A1/1", "23A1/2"])
    }

    @Test func anotherBuildOfTheSystemCompilesAgainAndRemovesEverythingOfTheOld() async throws {
        await (try bench.backend().load(try bench.file(name: "VAEDecoder.mlpackage", hash: "other"))).unload()
        await (try bench.backend().load(try bench.file())).unload()
        await (try bench.backend(osBuild: "23B2").load(try bench.file())).unload()
        #expect(bench.compiles == 3)
        #expect(try bench.entries == ["23B2/abc"])
    }

    @Test func tasksThatAskTogetherCompileOnce() async throws {
        var slow = Workbench.affine
        slow.compileSeconds = 0.1
        let file = try bench.file(slow)
        let backend = bench.backend()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 1...8 { group.addTask { await (try backend.load(file)).unload() } }
            try await group.waitForAll()
        }
        #expect(bench.compiles == 1)
        #expect(bench.loads.count == 8)
    }

    @Test func twoCachesOfTwoProcessesEndUpWithOneEntry() async throws {
        var slow = Workbench.affine
        slow.compileSeconds = 0.1
        let file = try bench.file(slow)
        let backends = [bench.backend(), bench.backend()]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for backend in backends { group.addTask { await (try backend.load(file)).unload() } }
            try await group.waitForAll()
        }
        #expect(bench.compiles == 2)
        #expect(try bench.entries == ["23A1/abc"])
        #expect(try children(bench.cache().folder) == ["23A1"])
    }

    @Test func aCompileThatStopsHalfWayLeavesNoEntry() async throws {
        var broken = Workbench.affine
        broken.failure = .compile
        let file = try bench.file(broken)
        #expect(
            await error { _ = try await bench.backend().load(file) }
                == .backendFailed(
                    backend: "coreml", file: "Unet.mlpackage", reason: "compiler error: unknown op"))
        #expect(try bench.entries == [])

        await (try bench.backend().load(try bench.file())).unload()
        #expect(bench.compiles == 2)
        #expect(try bench.entries == ["23A1/abc"])
    }

    @Test func anEntryInPreparationIsNeitherUsedNorRemovedUntilItIsADayOld() async throws {
        let folder = bench.cache().folder
        for (name, age) in [("compiling-now", 60.0), ("compiling-then", 100_000)] {
            let url = folder.appendingPathComponent(name)
            try Workbench.affine.write(to: url.appendingPathComponent("model.mlmodelc"))
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: url.path)
        }
        await (try bench.backend().load(try bench.file())).unload()
        #expect(bench.compiles == 1)
        #expect(try children(folder) == ["23A1", "compiling-now"])
    }

    @Test func aDamagedEntryIsCompiledAgain() async throws {
        let file = try bench.file()
        await (try bench.backend().load(file)).unload()
        let entry = bench.cache().folder.appendingPathComponent("23A1/abc/model.mlmodelc")
        try Data().write(to: entry.appendingPathComponent(StandInModel.fileName))
        await (try bench.backend().load(file)).unload()
        #expect(bench.compiles == 2)
        #expect(bench.loads.count == 3)
    }

    @Test func aFreshModelThatDoesNotLoadIsNotCompiledTwice() async throws {
        var broken = Workbench.affine
        broken.failure = .load
        let file = try bench.file(broken)
        _ = await error { _ = try await bench.backend().load(file) }
        #expect(bench.compiles == 1)
    }

    @Test func aCompiledModelIsLoadedAsItIs() async throws {
        await (try bench.backend().load(try bench.file(name: "Unet.mlmodelc"))).unload()
        #expect(bench.compiles == 0)
        #expect(bench.loads.count == 1)
        #expect(try bench.entries == [])
    }

    @Test func aFileWithoutAHashIsKnownByItsDate() async throws {
        let file = try bench.file(hash: "")
        for _ in 1...2 { await (try bench.backend().load(file)).unload() }
        #expect(bench.compiles == 1)
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: -5000)],
            ofItemAtPath: file.url.appendingPathComponent(StandInModel.fileName).path)
        await (try bench.backend().load(file)).unload()
        #expect(bench.compiles == 2)
        #expect(try bench.entries.count == 1)
    }

    @Test func theCacheCanBeEmptied() async throws {
        let cache = bench.cache()
        try await cache.removeAll()
        await (try bench.backend().load(try bench.file())).unload()
        try await cache.removeAll()
        #expect(try bench.entries == [])
    }

    @Test func theOSBuildIsTheNameOfAFolder() {
        let build = currentOSBuild()
        #expect(!build.isEmpty && !build.contains("/") && !build.contains(" "))
    }

    private func children(_ folder: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    }
}
