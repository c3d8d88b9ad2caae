/// Writes 8-bit RGB as PNG, the same chunks on every platform.
///
/// Not by ImageIO, which takes texts under a dozen keys of its own only, and gives pixels through
/// colour spaces and premultiplied alpha. Apple's Compression does the packing.
package enum PNGWriter {
    static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

    /// - Parameter texts: to go with the pixels; those whose key PNG cannot hold are left out.
    package static func png(_ image: RGBImage, texts: [String: String]) -> [UInt8] {
        var file = signature
        let header = bigEndian(image.width) + bigEndian(image.height) + [8, 2, 0, 0, 0]
        append("IHDR", header, to: &file)
        for (key, value) in texts.sorted(by: { $0.key < $1.key }) {
            guard let content = text(key: key, value: value) else { continue }
            append("iTXt", content, to: &file)
        }
        append("IDAT", Zlib.pack(filtered(image)), to: &file)
        append("IEND", [], to: &file)
        return file
    }

    /// Uncompressed, without a language. nil for a key that PNG cannot hold.
    private static func text(key: String, value: String) -> [UInt8]? {
        let letters = key.unicodeScalars.compactMap { UInt8(exactly: $0.value) }
        guard (1...79).contains(letters.count), letters.count == key.unicodeScalars.count,
            letters.allSatisfy({ (0x20...0x7E).contains($0) || $0 >= 0xA1 }),
            letters.first != 0x20, letters.last != 0x20
        else { return nil }
        return letters + [0, 0, 0, 0, 0] + Array(value.utf8)
    }

    static func append(_ type: String, _ content: [UInt8], to file: inout [UInt8]) {
        let body = Array(type.utf8) + content
        file += bigEndian(content.count) + body + CRC32.of(body).bigEndianBytes
    }

    static func bigEndian(_ value: Int) -> [UInt8] {
        UInt32(truncatingIfNeeded: value).bigEndianBytes
    }

    /// Each row with the filter that leaves the smallest numbers, as the PNG specification advises.
    private static func filtered(_ image: RGBImage) -> [UInt8] {
        let stride = 3 * image.width
        var result: [UInt8] = []
        result.reserveCapacity(image.rgb.count + image.height)
        var above = [UInt8](repeating: 0, count: stride)[...]
        for y in 0..<image.height {
            let row = image.rgb[y * stride..<(y + 1) * stride]
            var best: (cost: Int, filter: PNGFilter, bytes: [UInt8])?
            for filter in PNGFilter.allCases {
                let bytes = filter.apply(to: row, above: above, pixelBytes: 3)
                let cost = bytes.reduce(0) { $0 + Int(min($1, 0 &- $1)) }
                if cost < best?.cost ?? .max { best = (cost, filter, bytes) }
            }
            if let best {
                result.append(best.filter.rawValue)
                result += best.bytes
            }
            above = row
        }
        return result
    }
}
