import Foundation
import Testing

@testable import DiffusionCore

@Suite("PNG")
struct PNGTests {
    let fixture: PNGFixture

    init() throws {
        fixture = try PNGFixture.read()
    }

    @Test("Every kind, filter and packing is read as Pillow reads it")
    func reading() throws {
        #expect(fixture.pictures.count > 20)
        for (name, entry) in fixture.pictures {
            let picture = try Picture(png: entry.png)
            #expect([picture.size.height, picture.size.width] == entry.size, "\(name)")
            #expect(picture.rgb == [UInt8](entry.rgb), "\(name)")
        }
    }

    @Test("What is valid but not read is refused with the reason")
    func refusing() {
        for (reason, png) in fixture.refused {
            let error = #expect(throws: DiffusionError.self) { try Picture(png: png) }
            #expect(error?.description.contains(reason) == true, "\(reason)")
        }
    }

    @Test("What is written is read back, texts too")
    func roundTrip() throws {
        var noise = Noise(state: 1)
        for (height, width, levels) in [(1, 1, 256), (1, 300, 256), (300, 1, 3), (40, 37, 2), (64, 64, 1)] {
            let rgb = (0..<3 * height * width).map { _ in UInt8(noise.next(below: levels)) }
            let picture = Picture(size: ImageSize(height: height, width: width), rgb: rgb)
            let png = picture.png(metadata: fixture.text)
            #expect(try Picture(png: png) == picture, "\(height)x\(width)")
            #expect(try Picture.pngMetadata(png) == fixture.text)
        }
    }

    @Test("Texts that Pillow wrote are read; keys that PNG cannot hold are left out")
    func texts() throws {
        let entry = try #require(fixture.pictures["text"])
        #expect(try Picture.pngMetadata(entry.png) == fixture.text)
        let picture = try Picture(png: entry.png)
        let keys = ["", " a", "a ", "猫", String(repeating: "k", count: 80), "a\0b", "good key"]
        let png = picture.png(metadata: Dictionary(uniqueKeysWithValues: keys.map { ($0, "x") }))
        #expect(try Picture.pngMetadata(png) == ["good key": "x"])
    }

    @Test("A photo takes at most 3% more than Pillow takes")
    func size() throws {
        let entry = try #require(fixture.pictures["photo"])
        let written = try Picture(png: entry.png).png()
        #expect(Double(written.count) < 1.03 * Double(entry.png.count))
        #expect(4 * written.count < 3 * entry.rgb.count)
    }

    @Test("Cut off anywhere, or with any bit changed: an error")
    func damage() throws {
        let png = try #require(fixture.pictures["palette-4"]).png
        for length in 0..<png.count {
            #expect(throws: DiffusionError.self) { try Picture(png: png.prefix(length)) }
        }
        for index in png.indices {
            for bit in 0..<8 {
                var changed = png
                changed[index] ^= 1 << UInt8(bit)
                #expect(throws: DiffusionError.self, "bit \(bit) of byte \(index)") {
                    try Picture(png: changed)
                }
            }
        }
    }

    @Test("Packed pixels with any bit changed, under a right checksum of the chunk: never a crash")
    func damagedPixels() throws {
        for name in ["photo", "rgb", "fixed-codes", "stored"] {
            let png = [UInt8](try #require(fixture.pictures[name]).png)
            let begin = try #require(png.indices.first { png[$0...].starts(with: Array("IDAT".utf8)) })
            let packed = Array(png[(begin + 4)..<(png.count - 16)])
            let limit = 100_000
            let whole = try InflateReader.inflate(zlib: packed, limit: limit)
            var noise = Noise(state: 5)
            for _ in 0..<400 {
                var changed = packed
                for _ in 0...noise.next(below: 3) {
                    changed[noise.next(below: changed.count)] ^= 1 << UInt8(noise.next(below: 8))
                }
                if let result = try? InflateReader.inflate(zlib: changed, limit: limit) {
                    // Only bits that mean nothing may change without notice.
                    #expect(result == whole, "\(name)")
                }
            }
        }
    }
}

@Suite("DEFLATE and its checksums")
struct DeflateTests {
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

    @Test("Anything is unpacked as it was", arguments: [0, 1, 2, 3, 4, 257, 258, 259, 70_000])
    func roundTrip(count: Int) throws {
        var noise = Noise(state: 9)
        let constant = [UInt8](repeating: 7, count: count)
        let random = (0..<count).map { _ in UInt8(noise.next(below: 256)) }
        let skewed = (0..<count).map { _ in UInt8(1 << min(noise.next(below: 40), 7)) }
        let periodic = (0..<count).map { UInt8($0 % 251) }
        for bytes in [constant, random, skewed, periodic] {
            let packed = DeflateWriter.zlib(bytes)
            #expect(try InflateReader.inflate(zlib: packed, limit: count) == bytes)
            #expect(packed.count <= count + 32)
        }
        #expect(DeflateWriter.zlib(constant).count < max(32, count / 100))
    }

    @Test("A result beyond the limit is refused before it is made")
    func limit() throws {
        let packed = DeflateWriter.zlib(Array(repeating: 0, count: 5000))
        #expect(throws: InflateReader.Damage.tooLong) {
            try InflateReader.inflate(zlib: packed, limit: 4999)
        }
    }

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
}
