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

extension Picture: CustomStringConvertible {
    /// Its size, not its bytes.
    public var description: String { "picture of \(size)" }
}
