import Foundation
import Testing

@testable import DiffusionCore

@Suite("SHA-256")
struct SHA256Tests {
    /// Length of the pattern -> hash, by Python's hashlib.
    static func known() throws -> [(length: Int, hash: String)] {
        let data = try Data(contentsOf: BundleFixtures.folder.appendingPathComponent("sha256.json"))
        let table = try JSONDecoder().decode([String: String].self, from: data)
        return table.compactMap { key, hash in Int(key).map { ($0, hash) } }.sorted { $0.length < $1.length }
    }

    /// The portable one also where the system has its own.
    private func portable(_ bytes: [UInt8], pieces: [Int] = []) -> String {
        var hasher = PortableSHA256()
        bytes.withUnsafeBytes { all in
            var start = 0
            for piece in pieces + [bytes.count] {
                let end = min(bytes.count, start + piece)
                hasher.update(UnsafeRawBufferPointer(rebasing: all[start..<end]))
                start = end
            }
        }
        return hasher.hex()
    }

    @Test("gives the values of FIPS 180-4", arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
    ])
    func fips(text: String, hash: String) {
        #expect(portable(Array(text.utf8)) == hash)
        #expect(SHA256Digest.hex(of: Array(text.utf8)) == hash)
        #expect(portable(Array((text + " ").utf8)) != hash)
    }

    @Test func givesTheValueOfAMillionLetters() {
        let hash = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        #expect(portable(Array(repeating: 0x61, count: 1_000_000)) == hash)
    }

    @Test func agreesWithPythonAtTheEdgesOfBlocks() throws {
        let known = try Self.known()
        #expect(known.count > 35)
        for (length, hash) in known {
            #expect(portable(BundleFixtures.pattern(length)) == hash, "\(length) bytes")
        }
    }

    @Test("does not depend on the pieces", arguments: [[1], [63, 1], [64, 64], [65], [3, 61, 128, 7]])
    func pieces(pieces: [Int]) throws {
        for (length, hash) in try Self.known() where length < 2000 {
            #expect(portable(BundleFixtures.pattern(length), pieces: pieces) == hash)
        }
    }

    @Test func readsFilesPieceByPiece() throws {
        let folder = try TemporaryFolder()
        for length in [0, 1, SHA256Digest.chunk, SHA256Digest.chunk + 1, 3 * SHA256Digest.chunk] {
            let bytes = BundleFixtures.pattern(length)
            try folder.write("file", bytes)
            var read: [Int] = []
            let hash = try SHA256Digest.hex(ofFile: folder.url.appendingPathComponent("file")) {
                read.append($0)
            }
            #expect(hash == portable(bytes))
            #expect(read.reduce(0, +) == length)
            #expect(read.allSatisfy { $0 <= SHA256Digest.chunk })
        }
    }
}

@Suite("Checking a bundle")
struct VerifyTests {
    @Test func tellsHowFarItIs() async throws {
        let small = try SmallBundle()
        let bundle = try ModelBundle(at: small.url, checking: .nothing)
        let fractions = try await told { try await bundle.verify(progress: $0) }
        #expect(fractions.first == 0 && fractions.last == 1)
        #expect(fractions.count > 3 && fractions == fractions.sorted())
    }

    /// What a check says of its progress.
    private func told(
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
        let fractions = try await told { tell in
            let task = Task {
                try await bundle.verify { fraction in
                    tell(fraction)
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
