/// A picture of 8-bit red, green and blue.
public struct Picture: Sendable, Hashable, Codable {
    public let size: ImageSize
    /// Row by row, three bytes a pixel.
    public let rgb: [UInt8]

    /// - Precondition: `rgb` holds three bytes for each pixel.
    public init(size: ImageSize, rgb: [UInt8]) {
        precondition(rgb.count == 3 * size.height * size.width, "\(rgb.count) bytes for \(size)")
        self.size = size
        self.rgb = rgb
    }
}

extension Picture {
    enum CodingKeys: String, CodingKey { case size, rgb }

    /// - Throws: `DecodingError` where the bytes are not those of the size.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let size = try container.decode(ImageSize.self, forKey: .size)
        let rgb = try container.decode([UInt8].self, forKey: .rgb)
        let isSize = [size.height, size.width].allSatisfy { (0...Limits.pixels).contains($0) }
        guard isSize, rgb.count == 3 * size.height * size.width else {
            throw DecodingError.dataCorruptedError(
                forKey: .rgb, in: container, debugDescription: "\(rgb.count) bytes for \(size)")
        }
        self.init(size: size, rgb: rgb)
    }
}

extension Picture: CustomStringConvertible {
    /// Its size, not its bytes.
    public var description: String { "picture of \(size)" }
}
