import Testing

@testable import DiffusionCore

@Suite struct GuidanceTests {
    private let unconditional: [Float] = [0, 1, -2, 0.25]
    private let conditional: [Float] = [1, 1, 2, 0.75]

    @Test func theScaleStretchesTheDifference() {
        let guided = Guidance.combine(unconditional: unconditional, conditional: conditional, scale: 3)
        #expect(guided == [3, 1, 10, 1.75])
    }

    @Test func aScaleOfOneIsTheConditionalAlone() {
        #expect(Guidance.combine(unconditional: unconditional, conditional: conditional, scale: 1) == conditional)
        #expect(Guidance.combine(unconditional: conditional, conditional: unconditional, scale: 1) != conditional)
    }

    @Test func aBatchHoldsTheUnconditionalFirst() {
        let batch = Guidance.combine(batch: unconditional + conditional, scale: 3)
        #expect(batch == Guidance.combine(unconditional: unconditional, conditional: conditional, scale: 3))
        #expect(batch != Guidance.combine(batch: conditional + unconditional, scale: 3))
    }
}
