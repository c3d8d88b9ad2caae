import DiffusionTestSupport
import FileDigests
import Foundation

@testable import DiffusionCore

/// Files that both languages read.
enum BundleFixtures {
    /// The manifest of a converted demo model.
    static func demoManifest() throws -> Data {
        try Data(contentsOf: Fixtures.folder.appendingPathComponent("manifest-demo.json"))
    }
}

/// A small bundle on disk: a text encoder, a UNet in two chunks for Core ML and whole for TFLite.
struct SmallBundle {
    let folder: TemporaryFolder
    var url: URL { folder.url }
    var json: [String: Any]

    init() throws {
        folder = try TemporaryFolder()
        let contents: [String: [UInt8]] = [
            "TextEncoder.mlpackage/Manifest.json": Array("{}".utf8),
            "TextEncoder.mlpackage/Data/weight.bin": Fixtures.pattern(3000),
            "UnetChunk1.mlpackage/Data/weight.bin": Fixtures.pattern(5000),
            "UnetChunk2.mlpackage/Data/weight.bin": Fixtures.pattern(7000),
            "Unet.tflite": Fixtures.pattern(12000),
            "vocab.json": Array("{}".utf8), "merges.txt": Array("#version: 0.2\n".utf8),
        ]
        for (path, bytes) in contents { try folder.write(path, bytes) }
        json = [
            "format": "coreml-sd bundle", "manifest_version": 1, "pipeline": Self.pipeline,
            "components": Self.components,
            "files": contents.mapValues {
                ["sha256": SHA256Digest.hex(of: $0), "bytes": $0.count] as [String: Any]
            },
        ]
        try writeManifest()
    }

    func writeManifest() throws {
        let data = try JSONSerialization.data(withJSONObject: json)
        try folder.write("manifest.json", Array(data))
    }

    /// Change one value and write the manifest again.
    mutating func set(_ value: Any?, at keys: String...) throws {
        func changed(_ table: [String: Any], _ keys: ArraySlice<String>) -> [String: Any] {
            var table = table
            guard let key = keys.first else { return table }
            let inner = table[key] as? [String: Any] ?? [:]
            table[key] = keys.count == 1 ? value : changed(inner, keys.dropFirst())
            return table
        }
        json = changed(json, keys[...])
        try writeManifest()
    }

    private static var pipeline: [String: Any] { [
        "family": "stable-diffusion", "prediction_type": "epsilon", "size": [48, 32],
        "latent_size": [6, 4], "latent_channels": 4, "vae_scale_factor": 8, "scaling_factor": 0.18215,
        "shift_factor": 0.0, "batch": 2, "max_tokens": 77, "scheduler": ["beta_start": 0.00085],
        "tokenizer": ["bos_token_id": 5, "eos_token_id": 6, "pad_token_id": 6, "max_tokens": 77],
        "advice": ["guidance": 3.0, "steps": 20, "prompts": ["a cat"]],
    ] }

    private static var components: [String: Any] { [
        "unet": [
            "inputs": [["name": "sample", "shape": [2, 4, 6, 4], "dtype": "float16"]],
            "outputs": [["name": "noise_pred", "shape": [2, 4, 6, 4], "dtype": "float32"]],
            "files": [
                file("UnetChunk1.mlpackage", "coreml", ["sample"], ["hidden"], 4000),
                file("UnetChunk2.mlpackage", "coreml", ["hidden"], ["noise_pred"], 6000),
                file("Unet.tflite", "tflite", ["sample"], ["noise_pred"], 11000),
            ],
        ] as [String: Any],
        "text_encoder": [
            "inputs": [["name": "input_ids", "shape": [1, 77], "dtype": "float32"]],
            "outputs": [["name": "last_hidden_state", "shape": [1, 77, 16], "dtype": "float32"]],
            "files": [
                [
                    "path": "TextEncoder.mlpackage", "target": "coreml", "inputs": ["input_ids"],
                    "outputs": ["last_hidden_state"],
                ] as [String: Any],
            ],
        ] as [String: Any],
    ] }

    private static func file(
        _ path: String, _ target: String, _ inputs: [String], _ outputs: [String], _ bytes: Int
    ) -> [String: Any] {
        ["path": path, "target": target, "inputs": inputs, "outputs": outputs, "weight_bytes": bytes]
    }
}
