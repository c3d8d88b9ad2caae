import FileDigests
import Foundation

/// Compares files with what the manifest says of them.
struct FileChecker {
    let folder: URL
    let files: [String: FileFacts]
    /// Networks that are folders, all of whose files are listed.
    let packages: [String]

    init(folder: URL, manifest: Manifest) {
        self.folder = folder
        files = manifest.files
        let networks = Set(manifest.components.values.flatMap(\.files).map(\.path))
        packages = networks.filter { manifest.files[$0] == nil }.sorted()
    }

    /// In the order of the paths, so that the same fault gives the same error.
    private var ordered: [(path: String, facts: FileFacts)] {
        files.map { ($0.key, $0.value) }.sorted { $0.path < $1.path }
    }

    func check(_ kind: ModelBundle.FileCheck) throws {
        if kind == .nothing { return }
        for file in ordered {
            try checkSize(file.path, file.facts)
        }
        for package in packages { try checkNothingElse(in: package) }
        if kind == .sizes { return }
        for file in ordered {
            try checkHash(file.path, file.facts) { _ in }
        }
    }

    /// Sizes, then hashes; `read` is told the bytes of each piece that was read.
    func checkAll(read: (Int) -> Void) async throws {
        try check(.sizes)
        for file in ordered {
            try checkHash(file.path, file.facts, read: read)
            await Task.yield()
        }
    }

    private func checkSize(_ path: String, _ facts: FileFacts) throws {
        let size = try ForeignFile.size(of: folder.appendingPathComponent(path), name: path)
        guard size == facts.bytes else { throw DiffusionError.corruptedFile(name: path) }
    }

    /// What a runtime finds in a package is what was checked.
    private func checkNothingElse(in package: String) throws {
        let root = folder.appendingPathComponent(package)
        let names = (try? FileManager.default.subpathsOfDirectory(atPath: root.path)) ?? []
        for name in names.sorted() where files["\(package)/\(name)"] == nil {
            let attributes = try? FileManager.default.attributesOfItem(
                atPath: root.appendingPathComponent(name).path)
            guard attributes?[.type] as? FileAttributeType == .typeDirectory else {
                throw DiffusionError.unusableFile(
                    name: "\(package)/\(name)", reason: "the manifest does not list it")
            }
        }
    }

    private func checkHash(_ path: String, _ facts: FileFacts, read: (Int) -> Void) throws {
        let hash: String
        do {
            hash = try SHA256Digest.hex(ofFile: folder.appendingPathComponent(path), read: read)
        } catch let error as CancellationError {
            throw error
        } catch {
            throw DiffusionError.missingFile(name: path)
        }
        guard hash == facts.sha256.lowercased() else {
            throw DiffusionError.corruptedFile(name: path)
        }
    }
}

extension ModelBundle {
    /// Compare size and SHA-256 of every file with the manifest, without holding up the caller's
    /// actor; a cancelled task stops within a mebibyte.
    ///
    /// - Parameter progress: told the part of the bytes that was read, from 0 to 1.
    /// - Throws: ``DiffusionError/missingFile(name:)``, ``DiffusionError/corruptedFile(name:)``,
    ///   `CancellationError`.
    public func verify(progress: @Sendable (Double) -> Void = { _ in }) async throws {
        let total = max(1, manifest.files.values.reduce(0) { $0 + $1.bytes })
        var done = 0
        progress(0)
        try await FileChecker(folder: url, manifest: manifest).checkAll { bytes in
            done += bytes
            progress(Double(done) / Double(total))
        }
        progress(1)
    }
}
