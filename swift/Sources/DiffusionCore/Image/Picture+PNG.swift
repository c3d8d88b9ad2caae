import Foundation

extension Picture {
    /// A PNG file of this picture.
    ///
    /// - Parameter metadata: texts to go with it, such as how it was made; a key has up to 79 letters
    ///   of Latin script without a space at either end, others are left out.
    public func png(metadata: [String: String] = [:]) -> Data {
        PNGWriter.png(self, metadata: metadata)
    }

    /// Reads a PNG file: gray, colour or palette, up to 8 bits a channel, not interlaced. Alpha is
    /// dropped.
    ///
    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where it is of another kind or damaged.
    public init(png: Data) throws {
        self = try PNGReader(png).picture()
    }

    /// The texts in a PNG file by key.
    ///
    /// - Throws: ``DiffusionError/invalidRequest(reason:)`` where it is damaged.
    public static func pngMetadata(_ png: Data) throws -> [String: String] {
        try PNGReader(png).texts
    }
}
