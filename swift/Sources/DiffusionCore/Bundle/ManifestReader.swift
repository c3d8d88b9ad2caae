import FileDigests
import Foundation

/// Reads manifest.json and refuses what makes no sense or points out of the bundle.
struct ManifestReader {
    let folder: URL

    func read() throws -> Manifest {
        let url = folder.appendingPathComponent(ModelBundle.manifestName)
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        guard exists, !isFolder.boolValue else { throw DiffusionError.notABundle(folder) }
        try checkLinks(ModelBundle.manifestName)
        let data = try ForeignFile.read(url, name: ModelBundle.manifestName)
        let manifest = try decode(data)
        try ManifestRules(manifest: manifest).check()
        for path in manifest.files.keys.sorted() { try checkLinks(path) }
        return manifest
    }

    private func decode(_ data: Data) throws -> Manifest {
        do {
            try JSONCheck.check(data)
            try checkHeader(data)
            return try JSONDecoder().decode(Manifest.self, from: data)
        } catch let error as DiffusionError {
            throw error
        } catch let refusal as JSONCheck.Refusal {
            throw corrupted(refusal.reason)
        } catch {
            throw corrupted(Self.reason(error))
        }
    }

    /// Format, version and family first: others may differ in everything else. Then the manifest's own
    /// hash.
    private func checkHeader(_ data: Data) throws {
        struct Header: Decodable {
            struct Pipeline: Decodable {
                var family: String?
                var denoiser: JSONValue?
            }
            var format: String
            var manifest_version: Int
            var pipeline: Pipeline?
            var manifest_sha256: String?
        }
        let header = try JSONDecoder().decode(Header.self, from: data)
        guard header.format == Manifest.format else {
            throw corrupted("format is \"\(header.format)\"")
        }
        guard header.manifest_version >= 1 else {
            throw corrupted("manifest_version is \(header.manifest_version)")
        }
        guard header.manifest_version <= Manifest.supportedVersion else {
            throw DiffusionError.newerManifest(
                version: header.manifest_version, supported: Manifest.supportedVersion)
        }
        if let pipeline = header.pipeline { try checkFamily(pipeline.family, isOlder: pipeline.denoiser == nil) }
        if let seal = header.manifest_sha256 { try checkSeal(seal, data) }
    }

    /// Only the older families are known without being told what their denoiser takes.
    private func checkFamily(_ family: String?, isOlder: Bool) throws {
        guard isOlder, let family, !PipelineFacts.families.contains(family) else { return }
        throw DiffusionError.unsupportedBundle(
            reason: "pipeline.family is \"\(family)\", and pipeline.denoiser does not say what it takes; without "
                + "it this package draws with \(PipelineFacts.families.joined(separator: ", "))")
    }

    /// The manifest's hash of itself, taken with 64 zeros in its place. Bundles made by hand have none.
    private func checkSeal(_ seal: String, _ data: Data) throws {
        func line(_ seal: String) -> Data { Data("\"manifest_sha256\": \"\(seal)\"".utf8) }
        var unsealed = data
        if let place = data.range(of: line(seal)) {
            unsealed.replaceSubrange(place, with: line(String(repeating: "0", count: 64)))
        }
        guard SHA256Digest.hex(of: [UInt8](unsealed)) == seal else {
            throw DiffusionError.corruptedFile(name: ModelBundle.manifestName)
        }
    }

    /// A path must stay inside the folder after links are followed.
    private func checkLinks(_ path: String) throws {
        // From the resolved folder on: a file that is missing may be left unresolved.
        let root = folder.resolvingSymlinksInPath()
        let file = root.appendingPathComponent(path).resolvingSymlinksInPath()
        guard file.path.hasPrefix(root.path.hasSuffix("/") ? root.path : root.path + "/") else {
            throw corrupted("\(path) is a link out of the bundle")
        }
    }

    private func corrupted(_ reason: String) -> DiffusionError { .corruptedManifest(reason: reason) }

    /// Where the JSON stops to make sense, in a few words.
    private static func reason(_ error: any Error) -> String {
        func place(_ context: DecodingError.Context) -> String {
            context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
        }
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            let path = place(context)
            return "lacks \(path.isEmpty ? "" : path + ".")\(key.stringValue)"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            return "\(place(context)) is of another type"
        case DecodingError.dataCorrupted(let context):
            let path = place(context)
            return path.isEmpty ? context.debugDescription : "\(path): \(context.debugDescription)"
        default: return "\(error)"
        }
    }
}
