import DiffusionTestSupport
import Testing

@testable import DiffusionCore

@Suite("The guidance as sines and cosines")
struct GuidanceEmbeddingTests {
    private struct Golden: Decodable {
        var guidance: Float
        var width: Int
        var embedding: [Float]
    }

    @Test func isDiffusersOwn() throws {
        let golden = try Fixtures.load("guidance_embedding", as: [String: Golden].self)
        #expect(Set(golden.values.map(\.width)) == [8, 256] && golden.count == 6)
        for (name, expected) in golden {
            let told = Guidance.embedding(expected.guidance, width: expected.width)
            #expect(told.count == expected.width)
            // diffusers rounds the logarithm of the longest period to fp32.
            #expect(difference(told, expected.embedding) < 2e-4, "\(name)")
            let another = Guidance.embedding(expected.guidance + 0.01, width: expected.width)
            #expect(difference(another, expected.embedding) > 2e-3, "\(name)")
        }
    }

    @Test func anOddWidthEndsWithZero() {
        #expect(Guidance.embedding(3, width: 9) == Guidance.embedding(3, width: 8) + [0])
        #expect(Guidance.embedding(1, width: 2) == [0, 1])
    }

    private func difference(_ one: [Float], _ other: [Float]) -> Float {
        zip(one, other).map { abs($0 - $1) }.max() ?? .infinity
    }
}
