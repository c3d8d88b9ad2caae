import DiffusionTestSupport
import Foundation
import Testing

@testable import FileDigests

@Suite("SHA-256")
struct SHA256Tests {
    /// Length of the pattern -> hash, by Python's hashlib.
    private static func hashes() throws -> [(length: Int, hash: String)] {
        let table = try Fixtures.load("sha256", as: [String: String].self)
        return table.compactMap { key, hash in Int(key).map { ($0, hash) } }.sorted { $0.length < $1.length }
    }

    /// Ours, also where the system has its own.
    private func portable(_ bytes: [UInt8], pieces: [Int] = []) -> String {
        hash(PortableSHA256(), bytes, pieces)
    }

    private func hash(_ hasher: some SHA256Hasher, _ bytes: [UInt8], _ pieces: [Int]) -> String {
        var hasher = hasher
        bytes.withUnsafeBytes { all in
            var start = 0
            for piece in pieces + [bytes.count] {
                let end = min(bytes.count, start + piece)
                hasher.update(UnsafeRawBufferPointer(rebasing: all[start..<end]))
                start = end
            }
        }
        return SHA256Digest.hex(hasher.digest())
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
        let hashes = try Self.hashes()
        #expect(hashes.count > 35)
        for (length, hash) in hashes {
            #expect(portable(Fixtures.pattern(length)) == hash, "\(length) bytes")
        }
    }

    @Test("does not depend on the pieces", arguments: [[1], [63, 1], [64, 64], [65], [3, 61, 128, 7]])
    func pieces(pieces: [Int]) throws {
        for (length, hash) in try Self.hashes() where length < 2000 {
            let bytes = Fixtures.pattern(length)
            #expect(portable(bytes, pieces: pieces) == hash)
            #expect(self.hash(SystemSHA256(), bytes, pieces) == hash)
        }
    }

    @Test func readsFilesPieceByPiece() throws {
        let folder = try TemporaryFolder()
        for length in [0, 1, SHA256Digest.chunk, SHA256Digest.chunk + 1, 3 * SHA256Digest.chunk] {
            let bytes = Fixtures.pattern(length)
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
