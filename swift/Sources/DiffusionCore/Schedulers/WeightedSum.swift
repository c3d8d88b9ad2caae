/// Sums of whole latents: the arithmetic of every step.
enum WeightedSum {
    /// `a * x + b * y` for each number.
    static func of(_ a: Double, _ x: [Float], _ b: Double, _ y: [Float]) -> [Float] {
        precondition(x.count == y.count, "latents of \(x.count) and \(y.count) numbers")
        let (a, b) = (Float(a), Float(b))
        return [Float](unsafeUninitializedCapacity: x.count) { sum, count in
            x.withUnsafeBufferPointer { x in
                y.withUnsafeBufferPointer { y in
                    for index in 0..<x.count { sum[index] = a * x[index] + b * y[index] }
                }
            }
            count = x.count
        }
    }

    /// `sum += a * x` for each number.
    static func add(_ a: Double, _ x: [Float], to sum: inout [Float]) {
        precondition(x.count == sum.count, "latents of \(x.count) and \(sum.count) numbers")
        let a = Float(a)
        sum.withUnsafeMutableBufferPointer { sum in
            x.withUnsafeBufferPointer { x in
                for index in 0..<x.count { sum[index] += a * x[index] }
            }
        }
    }

    /// Every number within `-bound ... bound`.
    static func clip(_ values: inout [Float], to bound: Double) {
        let bound = Float(bound)
        values.withUnsafeMutableBufferPointer { values in
            for index in values.indices { values[index] = min(max(values[index], -bound), bound) }
        }
    }
}
