/// Pixels of 8-bit red, green and blue.
package struct RGBImage: Sendable, Hashable {
    package let height: Int
    package let width: Int
    /// Row by row, three bytes a pixel.
    package let rgb: [UInt8]

    /// - Precondition: `rgb` holds three bytes for each pixel.
    package init(height: Int, width: Int, rgb: [UInt8]) {
        precondition(rgb.count == 3 * height * width, "\(rgb.count) bytes for \(height)x\(width)")
        self.height = height
        self.width = width
        self.rgb = rgb
    }
}
