import Foundation
import Testing

@testable import DiffusionCore

@Suite("Checking a bundle")
struct VerifyTests {
    @Test func tellsHowFarItIs() async throws {
        let small = try SmallBundle()
        let bundle = try ModelBundle(at: small.url, checking: .nothing)
        let fractions = try await progress { try await bundle.verify(progress: $0) }
        #expect(fractions.first == 0 && fractions.last == 1)
        #expect(fractions.count > 3 && fractions == fractions.sorted())
    }

    /// What a check says of its progress.
    private func progress(
        _ check: (@escaping @Sendable (Double) -> Void) async throws -> Void
    ) async throws -> [Double] {
        let (stream, values) = AsyncStream.makeStream(of: Double.self)
        try await check { values.yield($0) }
        values.finish()
        return await stream.reduce(into: []) { $0.append($1) }
    }

    @Test func findsAChangedFile() async throws {
        let small = try SmallBundle()
        try small.folder.write("merges.txt", "#version: 0.3\n")
        let bundle = try ModelBundle(at: small.url, checking: .sizes)
        await #expect(throws: DiffusionError.corruptedFile(name: "merges.txt")) {
            try await bundle.verify()
        }
    }

    @Test func stopsWhenItsTaskIsCancelled() async throws {
        let small = try SmallBundle()
        let bundle = try ModelBundle(at: small.url, checking: .nothing)
        let fractions = try await progress { report in
            let task = Task {
                try await bundle.verify { fraction in
                    report(fraction)
                    if fraction > 0 { withUnsafeCurrentTask { $0?.cancel() } }
                }
            }
            await #expect(throws: CancellationError.self) { try await task.value }
        }
        #expect(fractions.count == 2 && fractions[1] < 1)
    }

    @Test func openingStopsToo() async throws {
        let small = try SmallBundle()
        let url = small.url
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try ModelBundle(at: url)
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(throws: Never.self) { try ModelBundle(at: url) }
    }
}
