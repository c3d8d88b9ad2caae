import DiffusionTestSupport
import FileDigests
import Foundation

@testable import DiffusionCore

/// The list of what every reader of bundles refuses, the same in Python, Swift and Kotlin
/// (`scripts/fixtures/bundle_rules.py`).
struct BundleRule: Decodable, Sendable {
    struct Edit: Decodable, Sendable {
        var at: [JSONValue]
        var value: JSONValue?
        var remove: Bool?
    }

    struct Change: Decodable, Sendable {
        var write: String?
        var text: String?
        var remove: String?
        var folder: String?
        var pipe: String?
        var link: String?
        var move: String?
        var to: String?
    }

    /// Changes to the values of manifest-demo.json, to its text, or to the files of ``RuleBundle``.
    var edits: [Edit]?
    var find: String?
    var put: String?
    var changes: [Change]?
    var refused: Bool
    /// What the error's one line holds.
    var names: String

    static let all: [String: BundleRule] = (try? Fixtures.load("bundle_rules")) ?? [:]

    static func named(_ kind: String) -> [String] { all.keys.filter { $0.hasPrefix(kind) }.sorted() }

    /// The demo's manifest with the edits.
    func edited() throws -> Data {
        var manifest = try JSONDecoder().decode(JSONValue.self, from: BundleFixtures.demoManifest())
        for edit in edits ?? [] {
            // A null is a value too, which `decodeIfPresent` leaves out.
            manifest = manifest.with(edit.remove == true ? nil : edit.value ?? .null, at: edit.at[...])
        }
        return try JSONEncoder().encode(manifest)
    }

    /// The demo's manifest with its text changed at the first place.
    func rewritten() throws -> Data {
        let text = String(decoding: try BundleFixtures.demoManifest(), as: UTF8.self)
        guard let find, let put, let place = text.range(of: find) else { throw CocoaError(.fileNoSuchFile) }
        return Data(text.replacingCharacters(in: place, with: put).utf8)
    }
}

extension JSONValue {
    /// With another value at a path of keys and indices; nil takes it out.
    func with(_ value: JSONValue?, at path: ArraySlice<JSONValue>) -> JSONValue {
        guard let step = path.first else { return value ?? .null }
        let rest = path.dropFirst()
        switch (self, step) {
        case (.object(var table), .string(let key)):
            table[key] = rest.isEmpty ? value : (table[key] ?? .object([:])).with(value, at: rest)
            return .object(table)
        case (.array(var list), .integer(let index)):
            if rest.isEmpty, value == nil {
                list.remove(at: index)
            } else {
                list[index] = list[index].with(value, at: rest)
            }
            return .array(list)
        default: return self
        }
    }
}

/// A small bundle whose one component has a network of each target.
struct RuleBundle {
    let parent: TemporaryFolder
    var url: URL { parent.url.appendingPathComponent("bundle") }

    init() throws {
        parent = try TemporaryFolder()
        let contents = [
            "Unet.mlpackage/Manifest.json": "{}", "Unet.mlpackage/Data/model.mlmodel": "program",
            "Unet.tflite": "network", "vocab.json": "{}", "merges.txt": "#version: 0.2\n",
        ]
        for (path, text) in contents { try parent.write("bundle/" + path, text) }
        let tensor = { (name: String) -> JSONValue in
            .object([
                "name": .string(name), "shape": .array([.integer(2)]), "dtype": .string("float32"),
            ])
        }
        let files = ["Unet.mlpackage": "coreml", "Unet.tflite": "tflite"].map { path, target in
            JSONValue.object([
                "path": .string(path), "target": .string(target), "inputs": .array([.string("sample")]),
                "outputs": .array([.string("noise_pred")]),
            ])
        }
        let unet = JSONValue.object([
            "inputs": .array([tensor("sample")]), "outputs": .array([tensor("noise_pred")]),
            "files": .array(files),
        ])
        let listed = contents.mapValues { text in
            JSONValue.object([
                "sha256": .string(SHA256Digest.hex(of: Array(text.utf8))), "bytes": .integer(text.utf8.count),
            ])
        }
        var manifest = try JSONDecoder().decode(JSONValue.self, from: BundleFixtures.demoManifest())
        manifest = manifest.with(.object(["unet": unet]), at: [.string("components")])
        manifest = manifest.with(.object(listed), at: [.string("files")])
        try parent.write("bundle/manifest.json", Array(JSONEncoder().encode(manifest)))
    }

    func apply(_ change: BundleRule.Change) throws {
        let files = FileManager.default
        func place(_ path: String) -> String { url.appendingPathComponent(path).path }
        if let path = change.write { try parent.write("bundle/" + path, change.text ?? "") }
        if let path = change.remove { try files.removeItem(atPath: place(path)) }
        if let path = change.folder {
            try files.createDirectory(atPath: place(path), withIntermediateDirectories: false)
        }
        if let path = change.pipe, mkfifo(place(path), 0o600) != 0 { throw CocoaError(.fileWriteUnknown) }
        if let path = change.move, let to = change.to { try files.moveItem(atPath: place(path), toPath: place(to)) }
        if let path = change.link, let to = change.to {
            try files.createSymbolicLink(atPath: place(path), withDestinationPath: to)
        }
    }
}
