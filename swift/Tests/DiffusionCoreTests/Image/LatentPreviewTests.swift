import DiffusionTestSupport
import Foundation
import Testing

@testable import DiffusionCore

@Suite("The preview of a latent")
struct LatentPreviewTests {
    private struct Fixture: Decodable {
        var latent: [Float]
        var size: [Int]
        var facts: PreviewFacts
        var picture: [Int]
        var published: [Int]
    }

    private let fixture: Fixture
    private let latent: Tensor

    init() throws {
        fixture = try Fixtures.load("latent_preview")
        latent = Tensor(shape: [1, 4] + fixture.size, values: fixture.latent)
    }

    private func facts(_ preview: PreviewFacts?, channels: Int = 4) -> PipelineFacts {
        let size = ImageSize(height: 64, width: 64)
        return PipelineFacts(
            family: "stable-diffusion", predictionType: "epsilon", size: size, latentSize: size,
            latentChannels: channels, scalingFactor: 1, batch: 1,
            tokenizer: TokenizerFacts(bosTokenID: 0, eosTokenID: 1, padTokenID: 1), preview: preview,
            scheduler: .object([:]))
    }

    @Test("is Python's, by the manifest's facts")
    func byTheManifest() throws {
        let picture = try #require(LatentPreview(facts(fixture.facts))).picture(of: latent)
        #expect(picture.size == ImageSize(height: fixture.size[0], width: fixture.size[1]))
        #expect(largestDifference(picture.rgb, fixture.picture) <= 1)
        #expect(largestDifference(picture.rgb, fixture.published) > 50)
    }

    @Test("is by published factors where the manifest says nothing")
    func published() throws {
        let picture = try #require(LatentPreview(facts(nil))).picture(of: latent)
        #expect(largestDifference(picture.rgb, fixture.published) <= 1)
    }

    @Test("is not there where no facts fit the latent")
    func none() {
        #expect(LatentPreview(facts(nil, channels: 16)) == nil)
        #expect(LatentPreview(facts(fixture.facts, channels: 3)) == nil)
        #expect(LatentPreview(facts(PreviewFacts(weights: fixture.facts.weights, bias: [0]))) == nil)
        let ragged = PreviewFacts(weights: [[1], [1], [1], [1]], bias: [0, 0, 0])
        #expect(LatentPreview(facts(ragged)) == nil)
    }

    @Test("survives what is no number")
    func notFinite() throws {
        var broken = latent
        broken.values[0] = .nan
        broken.values[1] = .infinity
        let preview = try #require(LatentPreview(facts(nil)))
        #expect(preview.picture(of: broken).rgb.prefix(3) == [0, 0, 0])
    }

    private func largestDifference(_ rgb: [UInt8], _ expected: [Int]) -> Int {
        guard rgb.count == expected.count else { return .max }
        return zip(rgb, expected).map { abs(Int($0) - $1) }.max() ?? 0
    }
}
