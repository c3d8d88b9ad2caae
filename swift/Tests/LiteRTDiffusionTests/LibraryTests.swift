import DiffusionCore
import DiffusionTestSupport
import Foundation
import Testing

@testable import LiteRTDiffusion

@Suite("LiteRT's library")
struct LibraryTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// What of an error tells the reason.
    func reason(_ body: () throws -> Void) -> String? {
        do {
            try body()
        } catch DiffusionError.backendUnavailable("litert", let reason, let remedy) {
            #expect(remedy.contains("LITERT_LIBRARY") || remedy.contains("CPU"))
            return reason
        } catch {}
        return nil
    }

    @Test("is refused by name where there is no file") func absent() {
        let url = URL(fileURLWithPath: "/nowhere/libLiteRt.so")
        #expect(reason { _ = try LiteRTBackend(library: url) } == "no file at /nowhere/libLiteRt.so")
    }

    @Test("is taken from LITERT_LIBRARY, which must be right") func variable() {
        let here = ["LITERT_LIBRARY": "/nowhere/else.so"]
        #expect(reason { _ = try LibrarySearch.find(environment: here) } == "no file at /nowhere/else.so")
    }

    @Test("is said to be missing where nothing names it and the system has none") func nowhere() {
        let said = reason { _ = try LibrarySearch.find(environment: [:], namesForLoader: ["libNone.so"]) }
        #expect(said == "no LiteRT library (\(LibrarySearch.fileName)) in the app or on this system")
    }

    @Test("is refused where it is no library") func notALibrary() throws {
        let url = try folder.write("libLiteRt.so", Data("text".utf8))
        let said = reason { _ = try LiteRTBackend(library: url) }
        #expect(said?.contains("libLiteRt.so cannot be opened (") == true)
    }

    @Test("refuses less than one thread") func threads() {
        #expect(throws: DiffusionError.self) {
            try LiteRTBackend(library: TestLibrary.url, accelerator: .cpu(threads: 0))
        }
        #expect((1...4).contains(LiteRTAccelerator.defaultThreads))
    }

    @Test("counts the fast cores of a phone, and all where they are alike") func fastCores() {
        #expect(LiteRTAccelerator.fastCores(of: [1_800, 1_800, 2_400, 2_400, 2_400, 3_000]) == 4)
        let alike = [3_000, 3_000, 3_100, 3_000]
        let here = ProcessInfo.processInfo.activeProcessorCount
        #expect(LiteRTAccelerator.fastCores(of: alike) == min(4, here))
        #expect(LiteRTAccelerator.fastCores(of: []) >= 1)
    }

    @Test("is given structures that lie as in its headers") func layout() {
        #expect(MemoryLayout<EnvironmentOption>.stride == 24)
        #expect(MemoryLayout<EnvironmentOption>.offset(of: \.value) == 8)
        #expect(MemoryLayout<EnvironmentOption.Value>.offset(of: \.value) == 8)
        #expect(RankedTensorType.wordCount * 4 == 72)
    }
}

@Suite("A copy of LiteRT's library", TestLibrary.needed)
struct LibraryCopyTests {
    let folder: TemporaryFolder
    let copy: URL

    init() throws {
        folder = try TemporaryFolder()
        copy = try folder.write(
            "packages/ai_edge_litert/libLiteRt.so", Data(contentsOf: TestLibrary.url!))
    }

    func said(_ accelerator: LiteRTAccelerator = .cpu()) -> String? {
        do {
            _ = try LiteRTBackend(library: copy, accelerator: accelerator)
        } catch { return "\(error)" }
        return nil
    }

    @Test("serves as well") func sound() throws {
        #expect(said() == nil)
        try folder.write("packages/ai_edge_litert-2.3.9.dist-info/METADATA", Data())
        #expect(said() == nil)
    }

    @Test("is refused where its wheel is of another version", arguments: ["2.2.0", "2.4.1", "2.30.0"])
    func wheel(version: String) throws {
        try folder.write("packages/ai_edge_litert-\(version).dist-info/METADATA", Data())
        #expect(said()?.contains("is LiteRT \(version), this package needs 2.3") == true)
    }

    @Test("computes on no GPU where the accelerator is not beside it") func accelerator() throws {
        #expect(said(.gpu())?.contains("no LiteRT accelerator for the GPU in \(folder.url.path)") == true)
        #expect(said(.gpu())?.contains("use the CPU") == true)
    }
}

/// A library that exports names and does nothing.
struct StubLibrary {
    static let compiler = ["/usr/bin/clang", "/usr/bin/cc", "/usr/local/bin/clang"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    /// Every name that is looked up, from the source itself.
    static func names() throws -> [String] {
        let folder = Fixtures.repository.appendingPathComponent("swift/Sources/LiteRTDiffusion/Library")
        let table = folder.appendingPathComponent("LiteRTLibrary.swift")
        let text = try String(contentsOf: table, encoding: .utf8)
        return text.matches(of: /"(LiteRt\w+)"/).map { String($0.1) }
    }

    static func library(_ names: [String], in folder: TemporaryFolder) throws -> URL {
        let text = names.map { "int \($0)(void) { return 3; }\n" }.joined()
        let source = try folder.write("stub.c", Data(text.utf8))
        // Each under a new name: what the loader has opened once, it gives again.
        let library = folder.url.appendingPathComponent("\(UUID().uuidString).so")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(compiler))
        process.arguments = ["-shared", "-fPIC", "-o", library.path, source.path]
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        return library
    }
}

@Suite("A library with LiteRT's names", .enabled(if: StubLibrary.compiler != nil, "no C compiler here"))
struct LibraryNamesTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    func said(_ names: [String]) throws -> String {
        let library = try StubLibrary.library(names, in: folder)
        do {
            _ = try LiteRTBackend(library: library)
            return "accepted"
        } catch { return "\(error)" }
    }

    @Test("is refused where it lacks any one that is used") func lacking() throws {
        let names = try StubLibrary.names()
        #expect(names.count == 32)
        for missing in [names[0], names[15], names[31]] {
            let said = try said(names.filter { $0 != missing })
            #expect(said.contains("is not LiteRT 2.3 (it lacks \(missing))"))
        }
    }

    @Test("is refused where it lacks what came with 2.3") func older() throws {
        #expect(try said(StubLibrary.names()).contains(".so is older than LiteRT 2.3 (it lacks"))
    }

    @Test("is refused where it does not start") func notStarting() throws {
        let all = try StubLibrary.names() + ["LiteRtCompiledModelIsNonCpuFullyAccelerated"]
        #expect(try said(all).contains("LiteRT does not start (runtime failure)"))
    }
}
