import DiffusionTestSupport
import Foundation
import Testing

@testable import DiffusionCore

@Suite("A picture's PNG file")
struct PictureFileTests {
    let fixture: PNGFixture

    init() throws {
        fixture = try PNGFixture.read()
    }

    @Test("is read back with its texts")
    func roundTrip() throws {
        let entry = try #require(fixture.pictures["photo"])
        let picture = try Picture(png: entry.png)
        #expect(picture.size == ImageSize(height: entry.size[0], width: entry.size[1]))
        #expect(picture.rgb == [UInt8](entry.rgb))
        let png = picture.png(metadata: fixture.text)
        #expect(try Picture(png: png) == picture)
        #expect(try Picture.pngMetadata(png) == fixture.text)
    }

    @Test("is refused as a wrong request where it cannot be read")
    func refused() {
        for (reason, png) in fixture.refused {
            let error = #expect(throws: DiffusionError.self) { try Picture(png: png) }
            #expect(error?.description.contains(reason) == true, "\(reason)")
        }
        let error = DiffusionError.invalidRequest(reason: "the PNG cannot be read: it is no PNG file")
        #expect(throws: error) { try Picture(png: Data("text".utf8)) }
        #expect(throws: error) { try Picture.pngMetadata(Data("text".utf8)) }
    }
}
