import CoreGraphics
import Diffusion
import Foundation
import SwiftUI

extension Picture {
    var image: Image? {
        guard let bytes = CGDataProvider(data: Data(rgb) as CFData),
            let image = CGImage(
                width: size.width, height: size.height, bitsPerComponent: 8, bitsPerPixel: 24,
                bytesPerRow: 3 * size.width, space: CGColorSpaceCreateDeviceRGB(),
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: bytes,
                decode: nil, shouldInterpolate: true, intent: .defaultIntent)
        else { return nil }
        return Image(decorative: image, scale: 1)
    }
}
