import Foundation

/// Reads manifest.json and refuses what makes no sense or points out of the bundle.
struct ManifestReader {
    let folder: URL

    func read() throws -> Manifest {
        let url = folder.appendingPathComponent(ModelBundle.manifestName)
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        guard exists, !isFolder.boolValue else { throw DiffusionError.notABundle(folder) }
        let manifest: Manifest
        do {
            let data = try Data(contentsOf: url)
            try checkHeader(data)
            manifest = try JSONDecoder().decode(Manifest.self, from: data)
        } catch let error as DiffusionError {
            throw error
        } catch {
            throw DiffusionError.corruptedManifest(reason: Self.reason(error))
        }
        try check(manifest)
        return manifest
    }

    /// Format, version and family first: others may differ in everything else.
    private func checkHeader(_ data: Data) throws {
        struct Header: Decodable {
            struct Pipeline: Decodable { var family: String? }
            var format: String
            var manifest_version: Int
            var pipeline: Pipeline?
        }
        let header = try JSONDecoder().decode(Header.self, from: data)
        guard header.format == Manifest.format else {
            throw DiffusionError.corruptedManifest(reason: "format is \"\(header.format)\"")
        }
        guard header.manifest_version <= Manifest.supportedVersion else {
            throw DiffusionError.newerManifest(
                version: header.manifest_version, supported: Manifest.supportedVersion)
        }
        guard let family = header.pipeline?.family, !PipelineFacts.families.contains(family) else { return }
        throw DiffusionError.unsupportedBundle(
            reason: "the bundle's model is of the family \"\(family)\", which this package does not draw "
                + "with; it draws with \(PipelineFacts.families.joined(separator: ", "))")
    }

    private func check(_ manifest: Manifest) throws {
        let isXL = manifest.pipeline.family == "stable-diffusion-xl"
        guard !isXL || manifest.pipeline.tokenizer2 != nil else {
            throw corrupted("lacks pipeline.tokenizer_2")
        }
        for (name, component) in manifest.components {
            guard !component.files.isEmpty else { throw corrupted("\(name) has no files") }
            for file in component.files {
                try checkPath(file.path)
                guard BundleContent(of: file.path, in: manifest.files).bytes > 0 else {
                    throw corrupted("\(file.path) of \(name) is not among the files")
                }
            }
        }
        for (path, facts) in manifest.files {
            try checkPath(path)
            guard facts.bytes >= 0, facts.sha256.utf8.count == 64, facts.sha256.allSatisfy(\.isHexDigit)
            else { throw corrupted("size or hash of \(path)") }
        }
    }

    /// A path must lead to something inside the folder, also after links are followed.
    private func checkPath(_ path: String) throws {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }), !path.contains("\0"),
            !path.contains("\\")
        else { throw corrupted("\(path) leads out of the bundle") }
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
            return context.codingPath.isEmpty ? "not JSON" : "\(place(context)): \(context.debugDescription)"
        default: return "\(error)"
        }
    }
}
