#if canImport(CoreML)
import CoreML
import DiffusionCore
import Foundation

/// Models compiled for this device, on disk.
///
/// A compiled model is good for one content and one build of the operating system; when either
/// changes, the file is compiled again and the old one removed. An entry appears whole or not at
/// all: it is prepared beside and renamed.
public actor CompiledModelCache {
    /// In the system's folder for caches, for every pipeline of the process.
    public static let shared = CompiledModelCache(
        in: FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask).first
            ?? FileManager.default.temporaryDirectory)

    /// Where the entries are; nothing else belongs there.
    public nonisolated let folder: URL

    private let disk: CompiledModelFolder
    private var running: [URL: Task<CompiledModel, any Error>] = [:]

    /// - Parameter parent: the entries are in its subfolder `coreml-sd`.
    public init(in parent: URL) {
        self.init(in: parent, osBuild: currentOSBuild())
    }

    init(in parent: URL, osBuild: String) {
        folder = parent.appendingPathComponent("coreml-sd", isDirectory: true)
        disk = CompiledModelFolder(root: folder, osBuild: osBuild)
    }

    /// Remove every compiled model; the next load compiles again.
    public func removeAll() throws {
        guard FileManager.default.fileExists(atPath: folder.path) else { return }
        try FileManager.default.removeItem(at: folder)
    }

    /// The compiled form of a package, compiled now where there is none yet. Whoever asks for a
    /// file that is being compiled waits for that.
    func model(for source: URL, contentHash: String) async throws -> CompiledModel {
        try Task.checkCancellation()
        let origin = try SourceFile(source, contentHash: contentHash)
        let entry = disk.entry(for: origin)
        if let task = running[entry] { return try await task.value }
        let disk = disk
        let task = Task { try await disk.findOrCompile(origin, as: entry) }
        running[entry] = task
        defer { running[entry] = nil }
        return try await task.value
    }

    func discard(_ model: CompiledModel) {
        try? FileManager.default.removeItem(at: model.entry)
    }
}

/// A model in the cache.
struct CompiledModel: Sendable {
    /// The folder that holds it and its record.
    let entry: URL
    /// Whether it was there before.
    let isOld: Bool

    /// The `.mlmodelc`.
    var url: URL { entry.appendingPathComponent("model.mlmodelc", isDirectory: true) }
    /// Says which file it was compiled from.
    var record: URL { entry.appendingPathComponent("source.txt") }

    var exists: Bool { FileManager.default.fileExists(atPath: url.path) }
}
#endif
