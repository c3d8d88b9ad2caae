/// Numbers that look random and are the same each time.
package struct Noise {
    private var state: UInt64

    package init(state: UInt64) { self.state = state }

    package mutating func next(below bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % bound
    }
}
