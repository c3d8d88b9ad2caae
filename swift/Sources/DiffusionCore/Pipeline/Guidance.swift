/// Classifier-free guidance.
///
/// Source: arXiv 2207.12598.
public enum Guidance {
    /// `unconditional + scale * (conditional - unconditional)` for each number, in fp32.
    ///
    /// - Precondition: both predictions hold as many numbers.
    public static func combine(
        unconditional: [Float], conditional: [Float], scale: Float
    ) -> [Float] {
        precondition(
            unconditional.count == conditional.count,
            "predictions of \(unconditional.count) and \(conditional.count) numbers")
        return combine(unconditional[...], conditional[...], scale: scale)
    }

    /// The same for a batch of two: the first half is unconditional, the second conditional.
    ///
    /// - Precondition: an even number of numbers.
    public static func combine(batch: [Float], scale: Float) -> [Float] {
        precondition(batch.count.isMultiple(of: 2), "a batch of two with \(batch.count) numbers")
        let half = batch.count / 2
        return combine(batch[..<half], batch[half...], scale: scale)
    }

    private static func combine(
        _ unconditional: ArraySlice<Float>, _ conditional: ArraySlice<Float>, scale: Float
    ) -> [Float] {
        [Float](unsafeUninitializedCapacity: unconditional.count) { guided, count in
            unconditional.withUnsafeBufferPointer { from in
                conditional.withUnsafeBufferPointer { to in
                    for index in 0..<from.count {
                        guided[index] = from[index] + scale * (to[index] - from[index])
                    }
                }
            }
            count = unconditional.count
        }
    }
}
