import Foundation
import ImageFiles

extension Picture {
    /// A PNG file of this picture.
    ///
    /// - Parameter metadata: texts to go with it, such as how it was made; a key has up to 79 letters
    ///   of Latin script without a space at either end, others are left out.
    public func png(metadata: [String: String] = [:]) -> Data {
        let image = RGBImage(height: size.height, width: size.width, rgb: rgb)
        return Data(PNGWriter.png(image, texts: metadata))
    }

    /// Reads a PNG file: gray, colour or palette, up to 8 bits a channel, not interlaced. Alpha is
    /// dropped.
    ///
    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where it is of another kind or damaged.
    public init(png: Data) throws {
        let image = try Self.reading(png) { try $0.image() }
        self.init(size: ImageSize(height: image.height, width: image.width), rgb: image.rgb)
    }

    /// The texts in a PNG file by key.
    ///
    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where it is damaged.
    public static func pngMetadata(_ png: Data) throws -> [String: String] {
        try reading(png) { $0.texts }
    }

    private static func reading<Result>(_ png: Data, _ use: (PNGReader) throws -> Result) throws -> Result {
        do {
            return try use(PNGReader([UInt8](png), mostPixels: Limits.pixels * Limits.pixels))
        } catch let error as UnreadablePNG {
            throw DiffusionError.invalidRequest(reason: "the PNG cannot be read: \(error.reason)")
        }
    }
}
