/// Normal numbers that are drawn in pairs: the second of a pair waits for the next number, also
/// between calls.
struct PairedNormals: Sendable {
    var twister: MersenneTwister
    private var second: Double?

    init(seed: UInt32) {
        twister = MersenneTwister(seed: seed)
    }

    /// - Parameter pair: draws two numbers, asked only where none waits.
    mutating func next(
        _ pair: (inout MersenneTwister) -> (first: Double, second: Double)
    ) -> Double {
        if let number = second {
            second = nil
            return number
        }
        let numbers = pair(&twister)
        second = numbers.second
        return numbers.first
    }
}
