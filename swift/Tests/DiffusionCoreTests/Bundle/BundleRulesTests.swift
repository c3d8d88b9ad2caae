import DiffusionTestSupport
import Foundation
import Testing

@testable import DiffusionCore

@Suite("The rules of bundles that hold in three languages")
struct BundleRulesTests {
    /// One line for a refusal, nil where the bundle opens.
    private func refusal(_ open: () throws -> Void) throws -> String? {
        do {
            try open()
            return nil
        } catch let error as DiffusionError {
            return error.description
        }
    }

    private func check(_ rule: BundleRule, _ message: String?) {
        #expect((message != nil) == rule.refused, "\(message ?? "opened")")
        guard let message, rule.refused else { return }
        #expect(rule.names.isEmpty || message.contains(rule.names), "\(message)")
        #expect(!message.contains("\n") && message.count < 500)
    }

    private func refusal(of manifest: Data) throws -> String? {
        let folder = try TemporaryFolder()
        try folder.write("manifest.json", Array(manifest))
        return try refusal { _ = try ModelBundle(at: folder.url, checking: .nothing) }
    }

    @Test("a value of the manifest", arguments: BundleRule.named("edit:"))
    func edit(name: String) throws {
        let rule = try #require(BundleRule.all[name])
        check(rule, try refusal(of: rule.edited()))
    }

    @Test("the text of the manifest", arguments: BundleRule.named("text:"))
    func text(name: String) throws {
        let rule = try #require(BundleRule.all[name])
        check(rule, try refusal(of: rule.rewritten()))
    }

    @Test("the files of the bundle", arguments: BundleRule.named("files:"))
    func files(name: String) throws {
        let rule = try #require(BundleRule.all[name])
        let bundle = try RuleBundle()
        for change in rule.changes ?? [] { try bundle.apply(change) }
        check(rule, try refusal { _ = try ModelBundle(at: bundle.url) })
    }

    @Test func areAllHere() {
        #expect(BundleRule.named("edit:").count > 100)
        #expect(BundleRule.named("text:").count > 8 && BundleRule.named("files:").count > 14)
    }
}

@Suite("Limits")
struct LimitsTests {
    @Test func areThoseOfTheOtherLanguages() throws {
        let here: [String: Double] = [
            "pixels": Double(Limits.pixels), "latent_pixels": Double(Limits.latentPixels),
            "latent_channels": Double(Limits.latentChannels),
            "vae_scale_factor": Double(Limits.vaeScaleFactor), "batch": Double(Limits.batch),
            "factor": Limits.factor, "max_tokens": Double(Limits.maxTokens),
            "token_id": Double(Limits.tokenID), "added_tokens": Double(Limits.addedTokens),
            "word_characters": Double(Limits.wordCharacters), "steps": Double(Limits.steps),
            "train_timesteps": Double(Limits.trainTimesteps), "guidance": Limits.guidance,
            "few_steps": Double(Limits.fewSteps),
            "rank": Double(Limits.rank), "elements": Double(Limits.elements),
            "intermediate_elements": Double(Limits.intermediateElements),
            "layers": Double(Limits.layers), "width": Double(Limits.width), "files": Double(Limits.files),
            "file_bytes": Double(Limits.fileBytes), "text_bytes": Double(Limits.textBytes),
            "program_bytes": Double(Limits.programBytes), "nesting": Double(Limits.nesting),
        ]
        #expect(try Fixtures.load("limits", as: [String: Double].self) == here)
    }

    @Test("count the numbers of a shape", arguments: [
        ([2, 4, 16, 16], 2048), ([1], 1), ([1 << 28], 1 << 28), ([1 << 28, 2], nil), ([], nil), ([0, 4], nil),
        ([-1, -1], nil), ([1 << 62, 1 << 62], nil), ([Int](repeating: 1, count: 9), nil),
    ])
    func count(shape: [Int], count: Int?) {
        #expect(TensorInfo(shape: shape, dtype: .float32).count == count)
    }
}
