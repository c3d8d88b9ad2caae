import DiffusionTestSupport
import Foundation

@testable import DiffusionCore

/// Interfaces as apple/ml-stable-diffusion's converter declares them, at a small width.
enum AppleInterfaces {
    static func textEncoder(width: Int = 768) -> NetworkInterface {
        interface(
            ["input_ids": [1, 77]], ["last_hidden_state": [1, 77, width], "pooled_outputs": [1, width]])
    }

    static func unet(batch: Int = 2, latent: (Int, Int) = (64, 64), width: Int = 768) -> NetworkInterface {
        let sample = [batch, 4, latent.0, latent.1]
        return interface(
            ["sample": sample, "timestep": [batch], "encoder_hidden_states": [batch, width, 1, 77]],
            ["noise_pred": sample])
    }

    static func decoder(latent: (Int, Int) = (64, 64), image: [Int]? = nil) -> NetworkInterface {
        interface(
            ["z": [1, 4, latent.0, latent.1]],
            ["image": image ?? [1, 3, 8 * latent.0, 8 * latent.1]])
    }

    static let encoder = interface(["x": [1, 3, 512, 512]], ["latent": [1, 8, 64, 64]])

    /// A chunk of a UNet: the first reads the latent, the last gives the prediction.
    static func chunk(_ number: Int, of count: Int) -> NetworkInterface {
        let seam = { (number: Int) in ["seam_\(number)": [2, 320, 8, 8], "skip_\(number)": [2, 320, 8, 8]] }
        let whole = unet()
        var inputs = number == 1 ? ["sample": [2, 4, 64, 64], "timestep": [2]] : seam(number - 1)
        inputs["encoder_hidden_states"] = whole.inputs["encoder_hidden_states"]?.shape
        return interface(inputs, number == count ? ["noise_pred": [2, 4, 64, 64]] : seam(number))
    }

    static func interface(_ inputs: [String: [Int]], _ outputs: [String: [Int]]) -> NetworkInterface {
        NetworkInterface(
            inputs: inputs.mapValues { TensorInfo(shape: $0, dtype: .float16) },
            outputs: outputs.mapValues { TensorInfo(shape: $0, dtype: .float32) })
    }
}

/// Describes files by their names; runs nothing.
struct DescribingBackend: ModelBackend {
    var name = "stub"
    var target = Target.coreml
    var interfaces: [String: NetworkInterface]

    func load(_ file: ModelFile) async throws -> any Network { throw failure(file.url) }

    func prewarm(_ file: ModelFile) async throws { throw failure(file.url) }

    func interface(of file: URL) async throws -> NetworkInterface {
        guard let interface = interfaces[file.lastPathComponent] else { throw failure(file) }
        return interface
    }

    private func failure(_ file: URL) -> DiffusionError {
        .backendFailed(backend: name, file: file.lastPathComponent, reason: "not described")
    }
}

/// A folder with such files, and a backend that describes them.
struct AppleFixture {
    let folder: TemporaryFolder
    var backend: DescribingBackend

    /// - Parameter networks: file name -> interface.
    init(_ networks: [String: NetworkInterface], in subfolder: String = "") throws {
        folder = try TemporaryFolder()
        let prefix = subfolder.isEmpty ? "" : subfolder + "/"
        for name in networks.keys {
            try folder.write(prefix + name + "/weights/weight.bin", Fixtures.pattern(100))
            try folder.write(prefix + name + "/model.mil", Fixtures.pattern(20))
        }
        try folder.write(prefix + "vocab.json", #"{"a":0,"<|startoftext|>":7,"<|endoftext|>":9}"#)
        try folder.write(prefix + "merges.txt", "#version: 0.2\n")
        backend = DescribingBackend(interfaces: networks)
    }

    /// Stable Diffusion 1.5, compiled, with a few networks changed, or taken out with nil.
    static func sd15(
        changing changes: [String: NetworkInterface?] = [:], in subfolder: String = ""
    ) throws -> AppleFixture {
        var networks: [String: NetworkInterface] = [
            "TextEncoder.mlmodelc": AppleInterfaces.textEncoder(),
            "Unet.mlmodelc": AppleInterfaces.unet(), "VAEDecoder.mlmodelc": AppleInterfaces.decoder(),
        ]
        for (name, interface) in changes { networks[name] = interface }
        return try AppleFixture(networks, in: subfolder)
    }

    func open() async throws -> ModelBundle {
        try await AppleBundle.open(folder.url, backend: backend)
    }
}
