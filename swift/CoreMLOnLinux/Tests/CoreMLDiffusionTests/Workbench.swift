import CoreML
import DiffusionCore
import Foundation

@testable import CoreMLDiffusionOnLinux

/// A folder of its own for each test, with packages to load and an empty cache.
final class Workbench {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("coreml-tests-" + UUID().uuidString, isDirectory: true)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// A file that doubles its input and adds one.
    static let affine = StandInModel(
        inputs: ["sample": .init([2, 3], "float16")],
        outputs: ["noise_pred": .init(.init([2, 3], "float32"), from: "sample", scale: 2, offset: 1)])

    func file(
        _ model: StandInModel = affine, name: String = "Unet.mlpackage", hash: String = "abc",
        component: Component = .unet, function: String? = nil
    ) throws -> ModelFile {
        let url = folder.appendingPathComponent(name)
        try model.write(to: url)
        return ModelFile(
            url: url, component: component, contentHash: hash, weightBytes: 1,
            inputs: Array(model.inputs.keys), outputs: Array(model.outputs.keys), function: function)
    }

    func cache(osBuild: String = "23A1") -> CompiledModelCache {
        CompiledModelCache(in: folder.appendingPathComponent("Caches"), osBuild: osBuild)
    }

    func backend(
        _ options: CoreMLOptions = CoreMLOptions(), osBuild: String = "23A1",
        environment: [String: String] = [:]
    ) -> CoreMLBackend {
        CoreMLBackend(options: options, cache: cache(osBuild: osBuild), environment: environment)
    }

    /// Names of the entries in the cache, as `OS build/content`.
    var entries: [String] {
        get throws {
            let root = cache().folder
            let paths = (try? FileManager.default.subpathsOfDirectory(atPath: root.path)) ?? []
            return paths.filter { $0.hasSuffix("model.mlmodelc") }
                .map { ($0 as NSString).deletingLastPathComponent }.sorted()
        }
    }

    /// What Core ML was asked for in this folder.
    var compiles: Int {
        StandInLog.shared.calls.count { if case .compile(let url) = $0 { contains(url) } else { false } }
    }

    var loads: [StandInCall.Configuration] {
        StandInLog.shared.calls.compactMap {
            if case .load(let url, let configuration) = $0, contains(url) { configuration } else { nil }
        }
    }

    var predictions: [[String: UInt]] {
        StandInLog.shared.calls.compactMap {
            if case .predict(let url, let inputs) = $0, contains(url) { inputs } else { nil }
        }
    }

    var freed: Int {
        StandInLog.shared.calls.count { if case .free(let url) = $0 { contains(url) } else { false } }
    }

    private func contains(_ url: URL) -> Bool { url.path.hasPrefix(folder.path) }
}

/// The error that `work` throws.
func error(of work: () async throws -> Void) async -> DiffusionError? {
    do {
        try await work()
        return nil
    } catch {
        return error as? DiffusionError
    }
}
