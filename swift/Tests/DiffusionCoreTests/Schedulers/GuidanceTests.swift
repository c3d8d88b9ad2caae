import Testing

@testable import DiffusionCore

@Suite struct GuidanceTests {
    private let negative: [Float] = [0, 1, -2, 0.25]
    private let prompt: [Float] = [1, 1, 2, 0.75]

    @Test func theScaleStretchesTheDifference() {
        let guided = Guidance.combine(unconditional: negative, conditional: prompt, scale: 3)
        #expect(guided == [3, 1, 10, 1.75])
    }

    @Test func aScaleOfOneIsTheConditionalAlone() {
        #expect(Guidance.combine(unconditional: negative, conditional: prompt, scale: 1) == prompt)
        #expect(Guidance.combine(unconditional: prompt, conditional: negative, scale: 1) != prompt)
    }

    @Test func aBatchHoldsTheUnconditionalFirst() {
        let batch = Guidance.combine(batch: negative + prompt, scale: 3)
        #expect(batch == Guidance.combine(unconditional: negative, conditional: prompt, scale: 3))
        #expect(batch != Guidance.combine(batch: prompt + negative, scale: 3))
    }
}
