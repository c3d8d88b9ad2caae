import DiffusionCore
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
        let url = try folder.file("libLiteRt.so", Data("text".utf8))
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
        #expect(LiteRTAccelerator.fastCores(of: [1_800, 1_800, 1_800, 1_800, 2_400, 2_400, 2_400, 3_000]) == 4)
        let alike = [3_000, 3_000, 3_100, 3_000]
        #expect(LiteRTAccelerator.fastCores(of: alike) >= min(4, ProcessInfo.processInfo.activeProcessorCount))
        #expect(LiteRTAccelerator.fastCores(of: []) >= 1)
    }

    @Test("is given structures that lie as in its headers") func layout() {
        #expect(MemoryLayout<EnvironmentOption>.stride == 24)
        #expect(MemoryLayout<EnvironmentOption>.offset(of: \.value) == 8)
        #expect(MemoryLayout<EnvironmentOption.Value>.offset(of: \.value) == 8)
        #expect(RankedTensorType.wordCount * 4 == 72)
    }
}

@Suite("A copy of LiteRT's library", .enabled(if: TestLibrary.isHere, "libLiteRt is not here; set LITERT_LIBRARY"))
struct LibraryCopyTests {
    let folder: TemporaryFolder
    let original: Data

    init() throws {
        folder = try TemporaryFolder()
        original = try Data(contentsOf: TestLibrary.url!)
    }

    func copy(without symbol: String? = nil) throws -> URL {
        var data = original
        while let symbol, let range = data.range(of: Data(symbol.utf8)) { data[range.lowerBound] = 0x58 }
        return try folder.file("packages/ai_edge_litert/libLiteRt.so", data)
    }

    func error(_ url: URL, _ accelerator: LiteRTAccelerator = .cpu()) -> DiffusionError? {
        do {
            _ = try LiteRTBackend(library: url, accelerator: accelerator)
        } catch { return error as? DiffusionError }
        return nil
    }

    @Test("serves as well") func sound() throws {
        #expect(try error(copy()) == nil)
    }

    @Test("is refused where it lacks a function that is used") func lacking() throws {
        let said = try error(copy(without: "LiteRtGetSignatureInputName"))?.description
        print("SAID", said ?? "nil")
        #expect(said?.contains("is not LiteRT 2.3 (it lacks LiteRtGetSignatureInputName)") == true)
    }

    @Test("is refused where it lacks what came with 2.3") func older() throws {
        let said = try error(copy(without: "LiteRtCompiledModelIsNonCpuFullyAccelerated"))?.description
        #expect(said?.contains("is older than LiteRT 2.3") == true)
    }

    @Test("is refused where its wheel is of another version", arguments: ["2.2.0", "2.4.1", "2.30.0"])
    func wheel(version: String) throws {
        let url = try copy()
        _ = try folder.file("packages/ai_edge_litert-\(version).dist-info/METADATA", Data())
        #expect(error(url)?.description.contains("is LiteRT \(version), this package needs 2.3") == true)
    }

    @Test("computes on no GPU where the accelerator is not beside it") func accelerator() throws {
        let said = try error(copy(), .gpu())?.description
        #expect(said?.contains("no LiteRT accelerator for the GPU in \(folder.url.path)") == true)
        #expect(said?.contains("use the CPU") == true)
    }
}
