import DiffusionCore
import Foundation

/// Where LiteRT's library is looked for, and whether it is one that is known here.
enum LibrarySearch {
    /// The version whose functions are declared in ``LiteRTLibrary``.
    static let version = "2.3"
    static let variable = "LITERT_LIBRARY"

    /// A library that fits, and the folder it lies in, where its accelerators are looked for.
    struct Found: Sendable {
        let library: LiteRTLibrary
        let folder: String
    }

    /// The library at `explicit`, else at the path in `LITERT_LIBRARY`, else the one that the app
    /// has linked, brings along, or that the system's loader knows.
    ///
    /// - Throws: ``DiffusionError/backendUnavailable(backend:reason:remedy:)``.
    static func find(
        explicit: URL? = nil, environment: [String: String] = ProcessInfo.processInfo.environment,
        namesForLoader: [String] = namesForLoader
    ) throws -> Found {
        if let explicit { return try opened(explicit.path) }
        if let path = environment[variable], !path.isEmpty { return try opened(path) }
        if let linked = try? DynamicLibrary(nil), linked.has(anyFunction) {
            return try checked(linked, name: "the linked LiteRT library")
        }
        if let inside = placesInApp.first(where: { FileManager.default.fileExists(atPath: $0) }) {
            return try opened(inside)
        }
        for name in namesForLoader {
            if let library = try? DynamicLibrary(name) { return try checked(library, name: name) }
        }
        throw unavailable("no LiteRT library (\(fileName)) in the app or on this system")
    }

    #if canImport(Darwin)
    static let fileName = "libLiteRt.dylib"
    static let namesForLoader = [
        "@rpath/libLiteRt.dylib", "@rpath/LiteRt.framework/LiteRt", "libLiteRt.dylib",
    ]
    #else
    static let fileName = "libLiteRt.so"
    static let namesForLoader = ["libLiteRt.so"]
    #endif

    /// In an app's Frameworks folder, and beside an executable.
    private static var placesInApp: [String] {
        let beside = Bundle.main.executableURL?.deletingLastPathComponent()
        return [Bundle.main.privateFrameworksURL, beside].compactMap(\.self).flatMap { folder in
            ["LiteRt.framework/LiteRt", fileName].map { folder.appendingPathComponent($0).path }
        }
    }

    private static func opened(_ path: String) throws -> Found {
        guard FileManager.default.fileExists(atPath: path) else {
            throw unavailable("no file at \(path)")
        }
        try checkWheel(around: path)
        do {
            return try checked(DynamicLibrary(path), name: path)
        } catch let failure as DynamicLibrary.Failure {
            throw unavailable("\(path) cannot be opened (\(failure.reason))")
        }
    }

    private static func checked(_ library: DynamicLibrary, name: String) throws -> Found {
        let table: LiteRTLibrary
        do {
            table = try LiteRTLibrary(in: library)
        } catch {
            throw unavailable("\(name) is not LiteRT \(version) (\(error.reason))")
        }
        // The library does not tell its version; arguments of functions have changed before.
        guard library.has(newInVersion) else {
            throw unavailable("\(name) is older than LiteRT \(version) (it lacks \(newInVersion))")
        }
        let path = library.path(of: anyFunction) ?? name
        return Found(library: table, folder: (path as NSString).deletingLastPathComponent)
    }

    /// A library in a Python wheel has its version beside it.
    private static func checkWheel(around path: String) throws {
        let packages = URL(fileURLWithPath: path).deletingLastPathComponent().deletingLastPathComponent()
        let prefix = "ai_edge_litert-", suffix = ".dist-info"
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: packages.path)) ?? []
        guard let entry = entries.first(where: { $0.hasPrefix(prefix) && $0.hasSuffix(suffix) })
        else { return }
        let found = entry.dropFirst(prefix.count).dropLast(suffix.count)
        guard found.hasPrefix("\(version).") else {
            throw unavailable("\(path) is LiteRT \(found), this package needs \(version)")
        }
    }

    private static func unavailable(_ reason: String) -> DiffusionError {
        .backendUnavailable(
            backend: LiteRTBackend.name, reason: reason,
            remedy: "add LiteRT \(version) to the app, or set \(variable) to the path of \(fileName)")
    }

    private static let anyFunction = "LiteRtCreateEnvironment"
    private static let newInVersion = "LiteRtCompiledModelIsNonCpuFullyAccelerated"
}
