import Foundation

/// States `(1, T, C)` as one context `(rows, C, 1, T)`: for each row those of every text encoder,
/// whose channels follow one another.
func channelsFirst(_ rows: [[Tensor]]) -> Tensor {
    let tokens = rows[0][0].shape[1]
    let channels = rows[0].map { $0.shape[2] }.reduce(0, +)
    var values = [Float](repeating: 0, count: rows.count * tokens * channels)
    for (row, encodings) in rows.enumerated() {
        var first = row * channels
        for states in encodings {
            let width = states.shape[2]
            for token in 0..<tokens {
                for channel in 0..<width {
                    values[(first + channel) * tokens + token] = states.values[token * width + channel]
                }
            }
            first += width
        }
    }
    return Tensor(shape: [rows.count, channels, 1, tokens], values: values)
}

/// Pooled outputs `(1, P)` as one `(rows, P)`: for each row those of every text encoder, one after another.
func sideBySide(_ rows: [[Tensor]]) -> Tensor {
    let width = rows[0].map { $0.shape[1] }.reduce(0, +)
    return Tensor(shape: [rows.count, width], values: rows.flatMap { $0.flatMap(\.values) })
}

/// A draw from the normal distribution whose mean and log variance `(1, 2C, h, w)` holds.
///
/// The log variance is kept within -30 and 20, as diffusers does.
func sampled(_ moments: Tensor, noise: [Float]) -> [Float] {
    let count = noise.count
    return (0..<count).map { index in
        let logVariance = min(max(moments.values[count + index], -30), 20)
        return moments.values[index] + exp(0.5 * logVariance) * noise[index]
    }
}

extension Picture {
    /// Pixels of a decoder's output `(1, 3, H, W)` in [-1, 1].
    init(image: Tensor) throws {
        guard image.shape.count == 4, image.shape[0] == 1, image.shape[1] == 3 else {
            throw DiffusionError.wrongInput(
                network: Component.vaeDecoder.rawValue, reason: "gives shape \(image.shape), not (1, 3, H, W)")
        }
        let size = ImageSize(height: image.shape[2], width: image.shape[3])
        let plane = size.height * size.width
        var rgb = [UInt8](repeating: 0, count: 3 * plane)
        for pixel in 0..<plane {
            for channel in 0..<3 {
                let value = min(max(image.values[channel * plane + pixel], -1), 1)
                rgb[3 * pixel + channel] = UInt8(((value + 1) * 127.5).rounded(.toNearestOrEven))
            }
        }
        self.init(size: size, rgb: rgb)
    }

    /// The picture `(1, 3, H, W)` in [-1, 1], as an encoder takes it.
    var tensor: Tensor {
        let plane = size.height * size.width
        var values = [Float](repeating: 0, count: 3 * plane)
        for pixel in 0..<plane {
            for channel in 0..<3 {
                values[channel * plane + pixel] = Float(rgb[3 * pixel + channel]) / 127.5 - 1
            }
        }
        return Tensor(shape: [1, 3, size.height, size.width], values: values)
    }
}
