#if canImport(CoreML)
import CoreML
import DiffusionCore
import Foundation

/// How compiled models lie on disk: `<root>/<OS build>/<content>/model.mlmodelc`.
struct CompiledModelFolder: Sendable {
    let root: URL
    let osBuild: String

    private static let prefix = "compiling-"
    /// Seconds after which an entry in preparation was surely abandoned.
    private static let abandoned = 86_400.0

    private var files: FileManager { .default }
    private var current: URL { root.appendingPathComponent(osBuild, isDirectory: true) }

    func entry(for origin: SourceFile) -> URL {
        current.appendingPathComponent(origin.content, isDirectory: true)
    }

    func findOrCompile(_ origin: SourceFile, as entry: URL) async throws -> CompiledModel {
        let found = CompiledModel(entry: entry, isOld: true)
        if found.exists { return found }
        let compiled = try await MLModel.compileModel(at: origin.url)
        defer { try? files.removeItem(at: compiled) }
        try keep(compiled, origin, as: entry)
        removeStale(origin, keeping: entry)
        return CompiledModel(entry: entry, isOld: false)
    }

    /// Move what Core ML left in a temporary place into an entry.
    private func keep(_ compiled: URL, _ origin: SourceFile, as entry: URL) throws {
        let prepared = CompiledModel(
            entry: root.appendingPathComponent(Self.prefix + UUID().uuidString, isDirectory: true),
            isOld: false)
        try files.createDirectory(at: prepared.entry, withIntermediateDirectories: true)
        defer { try? files.removeItem(at: prepared.entry) }
        try files.moveItem(at: compiled, to: prepared.url)
        try Data(origin.place.utf8).write(to: prepared.record)
        try files.createDirectory(at: current, withIntermediateDirectories: true)
        do {
            try files.moveItem(at: prepared.entry, to: entry)
        } catch {
            // Another process may have been quicker, and its entry is as good.
            guard CompiledModel(entry: entry, isOld: true).exists else { throw error }
        }
    }

    /// Remove entries of other OS builds, of earlier contents of the same file, and abandoned ones.
    private func removeStale(_ origin: SourceFile, keeping entry: URL) {
        for url in children(of: root) where url.lastPathComponent != osBuild {
            if !url.lastPathComponent.hasPrefix(Self.prefix) || isAbandoned(url) {
                try? files.removeItem(at: url)
            }
        }
        for other in children(of: current) where other.lastPathComponent != entry.lastPathComponent {
            let record = CompiledModel(entry: other, isOld: true).record
            // Only what was written here is read: a pipe in its place would never end.
            let attributes = try? files.attributesOfItem(atPath: record.path)
            guard attributes?[.type] as? FileAttributeType == .typeRegular,
                (attributes?[.size] as? NSNumber)?.intValue == origin.place.utf8.count
            else { continue }
            if (try? String(contentsOf: record, encoding: .utf8)) == origin.place {
                try? files.removeItem(at: other)
            }
        }
    }

    private func children(of folder: URL) -> [URL] {
        (try? files.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
    }

    private func isAbandoned(_ url: URL) -> Bool {
        let date = (try? files.attributesOfItem(atPath: url.path))?[.modificationDate] as? Date
        return date.map { -$0.timeIntervalSinceNow > Self.abandoned } ?? false
    }
}
#endif
