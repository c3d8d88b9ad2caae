import DiffusionTestSupport
import Foundation
import Testing

@testable import ImageFiles

@Suite("Zlib")
struct ZlibTests {
    /// Ours, and the system's where it has its own.
    static var coders: [any DeflateCoder.Type] {
        SystemDeflate.self == PortableDeflate.self
            ? [PortableDeflate.self] : [PortableDeflate.self, SystemDeflate.self]
    }

    @Test("Known checksums")
    func checksums() {
        let digits = Array("123456789".utf8)
        #expect(CRC32.of(digits) == 0xCBF4_3926)
        #expect(CRC32.of(Array("IEND".utf8)) == 0xAE42_6082)
        #expect(CRC32.of([]) == 0)
        #expect(Adler32.of(digits) == 0x091E_01DE)
        #expect(Adler32.of([]) == 1)
        #expect(Adler32.of(Array(repeating: 255, count: 100_000)) == 0x149A_302C)
    }

    @Test(
        "Anything is unpacked as it was, whoever packed it",
        arguments: [0, 1, 2, 3, 4, 257, 258, 259, 70_000])
    func roundTrip(count: Int) throws {
        var noise = Noise(state: 9)
        let constant = [UInt8](repeating: 7, count: count)
        let random = (0..<count).map { _ in UInt8(noise.next(below: 256)) }
        let skewed = (0..<count).map { _ in UInt8(1 << min(noise.next(below: 40), 7)) }
        let periodic = (0..<count).map { UInt8($0 % 251) }
        for packer in Self.coders {
            for bytes in [constant, random, skewed, periodic] {
                let packed = Zlib.pack(bytes, with: packer)
                #expect(packed.count <= count + count / 1000 + 32)
                for unpacker in Self.coders {
                    #expect(try Zlib.unpack(packed, limit: count, with: unpacker) == bytes)
                }
            }
            #expect(Zlib.pack(constant, with: packer).count < max(32, count / 100))
        }
    }

    @Test("A result beyond the limit is refused before it is made")
    func limit() throws {
        for coder in Self.coders {
            for count in [5000, 5_000_000] {
                let packed = Zlib.pack(Array(repeating: 0, count: count), with: coder)
                #expect(try Zlib.unpack(packed, limit: count, with: coder).count == count)
                #expect(throws: PackedDataError.tooLong) {
                    try Zlib.unpack(packed, limit: count - 1, with: coder)
                }
            }
        }
    }

    @Test("Bytes after the stream do not matter; a byte too few does")
    func end() throws {
        let bytes = Array("a zebra on a blue background, a zebra on a blue background".utf8)
        for coder in Self.coders {
            let packed = Zlib.pack(bytes, with: coder)
            #expect(try Zlib.unpack(packed + [1, 2, 3], limit: 100, with: coder) == bytes)
            for length in 0..<packed.count {
                #expect(throws: PackedDataError.self, "\(length) bytes") {
                    try Zlib.unpack(Array(packed.prefix(length)), limit: 100, with: coder)
                }
            }
            #expect(throws: PackedDataError.cutOff) {
                try Zlib.unpack(packed.dropLast(), limit: 100, with: coder)
            }
            #expect(throws: PackedDataError.wrongChecksum) {
                try Zlib.unpack(packed.dropLast() + [packed[packed.count - 1] ^ 1], limit: 100, with: coder)
            }
        }
    }

    @Test("Packed pixels with any bit changed: never a crash")
    func damagedPixels() throws {
        let fixture = try PNGFixture.read()
        let limit = 100_000
        for name in ["photo", "rgb", "fixed-codes", "stored"] {
            let png = [UInt8](try #require(fixture.pictures[name]).png)
            let begin = try #require(png.indices.first { png[$0...].starts(with: Array("IDAT".utf8)) })
            let packed = Array(png[(begin + 4)..<(png.count - 16)])
            for coder in Self.coders {
                let whole = try Zlib.unpack(packed, limit: limit, with: coder)
                var noise = Noise(state: 5)
                for _ in 0..<400 {
                    var changed = packed
                    for _ in 0...noise.next(below: 3) {
                        changed[noise.next(below: changed.count)] ^= 1 << UInt8(noise.next(below: 8))
                    }
                    if let result = try? Zlib.unpack(changed, limit: limit, with: coder) {
                        // Only bits that mean nothing may change without notice.
                        #expect(result == whole, "\(name)")
                    }
                }
            }
        }
    }
}

@Suite("DEFLATE in Swift")
struct PortableDeflateTests {
    @Test("Lengths of codes: as short as they can be, never above the limit, always a whole code")
    func codes() {
        #expect(DeflateCode.lengths(frequencies: [1, 1, 2, 4, 0], limit: 15) == [3, 3, 2, 1, 0])
        #expect(DeflateCode.lengths(frequencies: [0, 5], limit: 15) == [0, 1])
        // Frequencies as Fibonacci's numbers want a code as long as there are symbols.
        var fibonacci = [1, 1]
        while fibonacci.count < 30 { fibonacci.append(fibonacci.suffix(2).reduce(0, +)) }
        let lengths = DeflateCode.lengths(frequencies: fibonacci, limit: 7)
        #expect(lengths.max() == 7)
        #expect(lengths.reduce(0.0) { $0 + 1 / Double(1 << $1) } == 1)
    }

    @Test("Random bytes grow by at most 32 bytes in 70,000")
    func random() {
        var noise = Noise(state: 9)
        let bytes = (0..<70_000).map { _ in UInt8(noise.next(below: 256)) }
        #expect(Zlib.pack(bytes, with: PortableDeflate.self).count <= bytes.count + 32)
    }
}
