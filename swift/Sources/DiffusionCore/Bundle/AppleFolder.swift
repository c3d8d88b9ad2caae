import Foundation

/// Which files of a folder are which networks, by apple/ml-stable-diffusion's names.
struct AppleFolder {
    let url: URL
    /// Files of each component in running order.
    let files: [Component: [URL]]

    /// The folder itself or its `Resources`, whichever is whole.
    ///
    /// - Throws: ``DiffusionError/notABundle(_:)`` where no file has such a name, else what is
    ///   missing or not supported in the folder that holds the most.
    static func find(in url: URL) throws -> AppleFolder {
        var first: (any Error)?
        for folder in [url, url.appendingPathComponent("Resources")] {
            do {
                return try AppleFolder(folder)
            } catch DiffusionError.notABundle {
                continue
            } catch {
                first = first ?? error
            }
        }
        throw first ?? DiffusionError.notABundle(url)
    }

    private init(_ url: URL) throws {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
        let found = names.sorted().compactMap(AppleFileName.init)
        guard !found.isEmpty else { throw DiffusionError.notABundle(url) }
        self.url = url
        try Self.refuseOthers(found)
        files = try Self.components(found).mapValues { $0.map { url.appendingPathComponent($0.name) } }
        for needed in [Component.textEncoder, .unet, .vaeDecoder] where files[needed] == nil {
            throw DiffusionError.missingComponent(
                needed, held: files.keys.sorted { $0.rawValue < $1.rawValue })
        }
        for name in ["vocab.json", "merges.txt"] where !names.contains(name) {
            throw DiffusionError.missingFile(name: name)
        }
    }

    private static func refuseOthers(_ found: [AppleFileName]) throws {
        for (network, family) in [(AppleFileName.Network.textEncoder2, "SDXL"), (.mmdit, "SD 3")] {
            guard let file = found.first(where: { $0.network == network }) else { continue }
            throw DiffusionError.unsupportedBundle(
                reason: "\(file.name) belongs to \(family), which is not supported; "
                    + "use a bundle of Stable Diffusion 1.x or 2.x")
        }
    }

    private static func components(_ found: [AppleFileName]) throws -> [Component: [AppleFileName]] {
        var table: [Component: [AppleFileName]] = [:]
        let single: [(Component, AppleFileName.Network)] = [
            (.textEncoder, .textEncoder), (.unet, .unet), (.vaeDecoder, .vaeDecoder),
            (.vaeEncoder, .vaeEncoder),
        ]
        for (component, network) in single {
            table[component] = try choose(found.filter { $0.network == network }).map { [$0] }
        }
        if let chunks = try chunks(found, orElse: table[.unet]) { table[.unet] = chunks }
        return table
    }

    /// The chunks by number, from 1 on without a gap. Two or more go before a whole UNet; a part
    /// of them does not.
    private static func chunks(
        _ found: [AppleFileName], orElse whole: [AppleFileName]?
    ) throws -> [AppleFileName]? {
        let byNumber = Dictionary(grouping: found) { $0.chunk ?? 0 }.filter { $0.key > 0 }
        guard let last = byNumber.keys.max() else { return nil }
        if whole != nil, last < 2 || byNumber.count < last { return nil }
        return try (1...last).map { number in
            guard let file = try choose(byNumber[number] ?? []) else {
                throw DiffusionError.missingFile(name: "UnetChunk\(number)")
            }
            return file
        }
    }

    /// Short names before long ones, compiled files before others.
    private static func choose(_ candidates: [AppleFileName]) throws -> AppleFileName? {
        let models = Set(candidates.compactMap(\.model))
        let short = candidates.filter { $0.model == nil }
        guard !short.isEmpty || models.count < 2 else {
            throw DiffusionError.unsupportedBundle(
                reason: "\(candidates.map(\.name).joined(separator: " and ")) belong to different "
                    + "models; keep the files of one")
        }
        let kept = short.isEmpty ? candidates : short
        return kept.first { $0.isCompiled } ?? kept.first
    }
}

/// A file name of apple/ml-stable-diffusion, taken apart.
struct AppleFileName {
    enum Network: Hashable {
        case textEncoder, textEncoder2, unet, vaeDecoder, vaeEncoder, mmdit
        case unetChunk(Int)
    }

    let name: String
    let network: Network
    /// What stands for the model in a long name; nil in a short one.
    let model: String?

    var isCompiled: Bool { name.hasSuffix(".mlmodelc") }

    var chunk: Int? { if case .unetChunk(let number) = network { number } else { nil } }

    /// nil for names of anything else.
    init?(_ name: String) {
        guard let ending = [".mlmodelc", ".mlpackage"].first(where: name.hasSuffix) else { return nil }
        self.name = name
        let stem = String(name.dropLast(ending.count))
        if let network = Self.network(stem, short: true) {
            (self.network, model) = (network, nil)
            return
        }
        let prefix = "Stable_Diffusion_version_"
        guard stem.hasPrefix(prefix) else { return nil }
        let rest = stem.dropFirst(prefix.count)
        // The model's name may hold underscores: the longest ending that is a network's name.
        for cut in rest.indices where rest[cut] == "_" {
            if let network = Self.network(String(rest[rest.index(after: cut)...]), short: false) {
                (self.network, model) = (network, String(rest[..<cut]))
                return
            }
        }
        return nil
    }

    private static let names: [(short: String, long: String, network: Network)] = [
        ("TextEncoder", "text_encoder", .textEncoder), ("TextEncoder2", "text_encoder_2", .textEncoder2),
        ("Unet", "unet", .unet), ("VAEDecoder", "vae_decoder", .vaeDecoder),
        ("VAEEncoder", "vae_encoder", .vaeEncoder),
        ("MultiModalDiffusionTransformer", "mmdit", .mmdit),
    ]

    private static func network(_ text: String, short: Bool) -> Network? {
        if let entry = names.first(where: { (short ? $0.short : $0.long) == text }) { return entry.network }
        let prefix = short ? "UnetChunk" : "unet_chunk"
        guard text.hasPrefix(prefix), let number = Int(text.dropFirst(prefix.count)), (1...Limits.files).contains(number)
        else { return nil }
        return .unetChunk(number)
    }
}
