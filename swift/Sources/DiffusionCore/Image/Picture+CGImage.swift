#if canImport(CoreGraphics)
    import CoreGraphics
    import Foundation

    extension Picture {
        /// The picture in sRGB, for `Image(decorative:scale:)` and the like.
        public var cgImage: CGImage? {
            guard let provider = CGDataProvider(data: Data(rgb) as CFData),
                let space = CGColorSpace(name: CGColorSpace.sRGB)
            else { return nil }
            return CGImage(
                width: size.width, height: size.height, bitsPerComponent: 8, bitsPerPixel: 24,
                bytesPerRow: 3 * size.width, space: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
                provider: provider, decode: nil, shouldInterpolate: true, intent: .defaultIntent)
        }
    }
#endif
