import DiffusionTestSupport
import Foundation
import Testing

@testable import ImageFiles

@Suite("PNG")
struct PNGTests {
    let fixture: PNGFixture

    init() throws {
        fixture = try PNGFixture.read()
    }

    private func reader(_ png: some Sequence<UInt8>, mostPixels: Int = 8192 * 8192) throws -> PNGReader {
        try PNGReader(Array(png), mostPixels: mostPixels)
    }

    @Test("Every kind, filter and packing is read as Pillow reads it")
    func reading() throws {
        #expect(fixture.pictures.count > 20)
        for (name, entry) in fixture.pictures {
            let image = try reader(entry.png).image()
            #expect([image.height, image.width] == entry.size, "\(name)")
            #expect(image.rgb == [UInt8](entry.rgb), "\(name)")
        }
    }

    @Test("What is valid but not read is refused with the reason")
    func refusing() {
        for (reason, png) in fixture.refused {
            let error = #expect(throws: UnreadablePNG.self) { try reader(png).image() }
            #expect(error?.reason.contains(reason) == true, "\(reason)")
        }
    }

    @Test("A header that names more pixels than the limit is refused before the pixels are unpacked")
    func mostPixels() throws {
        let entry = try #require(fixture.pictures["photo"])
        let pixels = entry.size[0] * entry.size[1]
        #expect(throws: Never.self) { try reader(entry.png, mostPixels: pixels) }
        let error = #expect(throws: UnreadablePNG.self) { try reader(entry.png, mostPixels: pixels - 1) }
        #expect(error?.reason == "it has more than \(pixels - 1) pixels")
    }

    @Test("Pixels that unpack to more than the header names are refused")
    func moreThanTheHeader() throws {
        let rows = [UInt8](repeating: 0, count: 2 * (1 + 3 * 2))
        #expect(try reader(png(height: 2, width: 2, rows)).image().rgb.count == 12)
        for wrong in [rows + [0], rows + [UInt8](repeating: 0, count: 10_000_000)] {
            let error = #expect(throws: UnreadablePNG.self) {
                try reader(png(height: 2, width: 2, wrong)).image()
            }
            #expect(error?.reason == "its pixels are damaged")
        }
        let error = #expect(throws: UnreadablePNG.self) {
            try reader(png(height: 2, width: 2, rows.dropLast())).image()
        }
        #expect(error?.reason == "rows are missing")
    }

    /// A file of 8-bit RGB with these rows, each behind its filter.
    private func png(height: Int, width: Int, _ rows: some Sequence<UInt8>) -> [UInt8] {
        let empty = PNGWriter.png(RGBImage(height: 0, width: 0, rgb: []), texts: [:])
        let header = PNGWriter.bigEndian(width) + PNGWriter.bigEndian(height) + [8, 2, 0, 0, 0]
        var file = PNGWriter.signature
        PNGWriter.append("IHDR", header, to: &file)
        PNGWriter.append("IDAT", Zlib.pack(Array(rows)), to: &file)
        return file + empty.suffix(12)
    }

    @Test("What is written is read back, texts too")
    func roundTrip() throws {
        var noise = Noise(state: 1)
        for (height, width, levels) in [(1, 1, 256), (1, 300, 256), (300, 1, 3), (40, 37, 2), (64, 64, 1)] {
            let rgb = (0..<3 * height * width).map { _ in UInt8(noise.next(below: levels)) }
            let image = RGBImage(height: height, width: width, rgb: rgb)
            let reader = try reader(PNGWriter.png(image, texts: fixture.text))
            #expect(try reader.image() == image, "\(height)x\(width)")
            #expect(reader.texts == fixture.text)
        }
    }

    @Test("Texts that Pillow wrote are read; keys that PNG cannot hold are left out")
    func texts() throws {
        let entry = try #require(fixture.pictures["text"])
        #expect(try reader(entry.png).texts == fixture.text)
        let image = try reader(entry.png).image()
        let keys = ["", " a", "a ", "猫", String(repeating: "k", count: 80), "a\0b", "good key"]
        let png = PNGWriter.png(image, texts: Dictionary(uniqueKeysWithValues: keys.map { ($0, "x") }))
        #expect(try reader(png).texts == ["good key": "x"])
    }

    @Test("A photo takes at most 3% more than Pillow takes")
    func size() throws {
        let entry = try #require(fixture.pictures["photo"])
        let written = try PNGWriter.png(reader(entry.png).image(), texts: [:])
        #expect(Double(written.count) < 1.03 * Double(entry.png.count))
        #expect(4 * written.count < 3 * entry.rgb.count)
    }

    @Test("Cut off anywhere, or with any bit changed: an error")
    func damage() throws {
        let png = try #require(fixture.pictures["palette-4"]).png
        for length in 0..<png.count {
            #expect(throws: UnreadablePNG.self) { try reader(png.prefix(length)).image() }
        }
        for index in png.indices {
            for bit in 0..<8 {
                var changed = png
                changed[index] ^= 1 << UInt8(bit)
                #expect(throws: UnreadablePNG.self, "bit \(bit) of byte \(index)") {
                    try reader(changed).image()
                }
            }
        }
    }
}
