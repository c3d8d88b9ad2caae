// A sample: no Xcode and no iOS SDK on the machines that coreml-sd is built on, so it was not compiled for iOS.

import CoreGraphics
import Diffusion
import Foundation
import SwiftUI

extension Picture {
    /// The picture for SwiftUI.
    var image: Image? {
        cgImage.map { Image(decorative: $0, scale: 1) }
    }

    /// The picture for everything else: saving, sharing, Core Image.
    var cgImage: CGImage? {
        guard let bytes = CGDataProvider(data: Data(rgb) as CFData) else { return nil }
        return CGImage(
            width: size.width, height: size.height, bitsPerComponent: 8, bitsPerPixel: 24,
            bytesPerRow: 3 * size.width, space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: bytes,
            decode: nil, shouldInterpolate: true, intent: .defaultIntent)
    }
}
