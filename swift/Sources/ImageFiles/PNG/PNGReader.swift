/// Reads PNG: gray, RGB, with and without alpha at 8 bits, and gray and palettes of up to 8 bits;
/// not interlaced. Alpha is dropped.
package struct PNGReader {
    /// Pixels that the picture may have at most.
    private let mostPixels: Int
    private var header: Header?
    private var palette: [UInt8] = []
    private var packed: [UInt8] = []
    /// Key and value of texts that are not compressed.
    package private(set) var texts: [String: String] = [:]

    struct Header {
        var width = 0
        var height = 0
        var depth = 0
        var color = Color.gray

        enum Color: UInt8 {
            case gray = 0
            case rgb = 2
            case palette = 3
            case grayAlpha = 4
            case rgba = 6

            var channels: Int {
                switch self {
                case .gray, .palette: 1
                case .grayAlpha: 2
                case .rgb: 3
                case .rgba: 4
                }
            }
        }

        /// Bytes of a row, and of a pixel or the part of a byte that holds several.
        var stride: Int { (width * color.channels * depth + 7) / 8 }
        var pixelBytes: Int { max(1, color.channels * depth / 8) }
    }

    /// Reads and checks the chunks.
    ///
    /// - Parameter mostPixels: that the picture may have; nothing is reserved for one with more.
    /// - Throws: ``UnreadablePNG``.
    package init(_ bytes: [UInt8], mostPixels: Int) throws {
        self.mostPixels = mostPixels
        guard bytes.starts(with: PNGWriter.signature) else { throw Self.unreadable("it is no PNG file") }
        var position = PNGWriter.signature.count
        while true {
            guard position + 12 <= bytes.count else { throw Self.unreadable("it is cut off") }
            let count = Self.number(bytes[position..<position + 4])
            guard count <= bytes.count - position - 12 else { throw Self.unreadable("it is cut off") }
            let body = bytes[position + 4..<position + 8 + count]
            position += 12 + count
            guard CRC32.of(body) == UInt32(bigEndianBytes: bytes[position - 4..<position]) else {
                throw Self.unreadable("a checksum is wrong")
            }
            let type = String(decoding: body.prefix(4), as: UTF8.self)
            if type == "IEND" { break }
            try take(type, Array(body.dropFirst(4)))
        }
    }

    private mutating func take(_ type: String, _ content: [UInt8]) throws {
        switch type {
        case "IHDR": header = try checkedHeader(content)
        case "PLTE": palette = content
        case "IDAT": packed += content
        case "iTXt", "tEXt": readText(type, content)
        default:
            // A capital letter first: the picture cannot be shown without it.
            guard type.utf8.first.map({ $0 & 0x20 != 0 }) == true else {
                throw Self.unreadable("it has an unknown part \(type)")
            }
        }
    }

    private func checkedHeader(_ content: [UInt8]) throws -> Header {
        guard content.count == 13, let color = Header.Color(rawValue: content[9]) else {
            throw Self.unreadable("its header is damaged")
        }
        let header = Header(
            width: Self.number(content[0..<4]), height: Self.number(content[4..<8]), depth: Int(content[8]),
            color: color)
        guard header.width > 0, header.height > 0, content[10] == 0, content[11] == 0 else {
            throw Self.unreadable("its header is damaged")
        }
        guard header.width <= mostPixels, header.height <= mostPixels / header.width else {
            throw Self.unreadable("it has more than \(mostPixels) pixels")
        }
        let isPacked = [1, 2, 4].contains(header.depth) && [.gray, .palette].contains(color)
        guard header.depth == 8 || isPacked else {
            throw Self.unreadable("it has \(header.depth) bits a channel; save it with 8")
        }
        guard content[12] == 0 else { throw Self.unreadable("it is interlaced; save it without") }
        return header
    }

    private mutating func readText(_ type: String, _ content: [UInt8]) {
        let parts = content.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return }
        let key = latin1(parts[0])
        guard type == "iTXt" else {
            texts[key] = latin1(parts[1])
            return
        }
        // Flag and method of compression, language, translated key, text.
        guard parts[1].count >= 2, parts[1].first == 0 else { return }
        let fields = parts[1].dropFirst(2)
            .split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
        if fields.count == 3 { texts[key] = String(decoding: fields[2], as: UTF8.self) }
    }

    private func latin1(_ bytes: some Sequence<UInt8>) -> String {
        String(String.UnicodeScalarView(bytes.map { Unicode.Scalar($0) }))
    }

    /// The pixels.
    ///
    /// - Throws: ``UnreadablePNG``.
    package func image() throws -> RGBImage {
        guard let header else { throw Self.unreadable("it has no header") }
        let rows = try unfiltered(header)
        var rgb: [UInt8] = []
        rgb.reserveCapacity(3 * header.width * header.height)
        for y in 0..<header.height {
            try append(rows[y * header.stride..<(y + 1) * header.stride], header, to: &rgb)
        }
        return RGBImage(height: header.height, width: header.width, rgb: rgb)
    }

    private func unfiltered(_ header: Header) throws -> [UInt8] {
        let size = header.height * (header.stride + 1)
        let stored: [UInt8]
        do {
            stored = try Zlib.unpack(packed, limit: size)
        } catch let error as PackedDataError {
            throw Self.unreadable(error == .cutOff ? "it is cut off" : "its pixels are damaged")
        }
        guard stored.count == size else { throw Self.unreadable("rows are missing") }
        var rows: [UInt8] = []
        rows.reserveCapacity(header.height * header.stride)
        var above = [UInt8](repeating: 0, count: header.stride)
        for begin in stride(from: 0, to: size, by: header.stride + 1) {
            guard let filter = PNGFilter(rawValue: stored[begin]) else {
                throw Self.unreadable("its pixels are damaged")
            }
            var row = Array(stored[begin + 1...begin + header.stride])
            filter.undo(&row, above: above[...], pixelBytes: header.pixelBytes)
            rows += row
            above = row
        }
        return rows
    }

    private func append(_ row: ArraySlice<UInt8>, _ header: Header, to rgb: inout [UInt8]) throws {
        switch header.color {
        case .rgb: rgb += row
        case .rgba, .grayAlpha:
            let channels = header.color.channels
            for pixel in stride(from: row.startIndex, to: row.endIndex, by: channels) {
                for channel in 0..<3 { rgb.append(row[pixel + min(channel, channels - 2)]) }
            }
        case .gray:
            let scale = UInt8(255 / ((1 << header.depth) - 1))
            for sample in samples(row, header) { rgb += repeatElement(sample * scale, count: 3) }
        case .palette:
            for sample in samples(row, header) {
                let entry = 3 * Int(sample)
                guard entry + 3 <= palette.count else {
                    throw Self.unreadable("a colour is not in its palette")
                }
                rgb += palette[entry..<entry + 3]
            }
        }
    }

    /// One number a pixel, of one channel; the first pixel in the highest bits.
    private func samples(_ row: ArraySlice<UInt8>, _ header: Header) -> [UInt8] {
        guard header.depth < 8 else { return Array(row) }
        return (0..<header.width).map { x in
            let bit = x * header.depth
            let shift = 8 - header.depth - bit % 8
            return row[row.startIndex + bit / 8] >> UInt8(shift) & UInt8(1 << header.depth - 1)
        }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> Int {
        Int(UInt32(bigEndianBytes: bytes))
    }

    private static func unreadable(_ reason: String) -> UnreadablePNG {
        UnreadablePNG(reason: reason)
    }
}

/// A file that is no PNG, is damaged, or is of a kind that is not read.
package struct UnreadablePNG: Error, Hashable {
    package let reason: String
}
