import Diffusion
import Foundation

/// The whole command: read the arguments, draw, write; the exit status.
///
/// 0 is success, 2 the user's mistake, 1 anything else.
public func run(_ arguments: [String]) async -> Int32 {
    do {
        switch try parse(arguments) {
        case .help: print(helpText)
        case .version: print("coreml-sd-run \(packageVersion)")
        case .draw(let options): try await draw(options)
        }
        return 0
    } catch {
        let failure = Failure(error)
        if arguments.contains("--json") { Console.json(["event": "error", "message": failure.line]) }
        Console.error("coreml-sd-run: \(failure.line)")
        return failure.status
    }
}

private func draw(_ options: Options) async throws {
    let pipeline = try await openPipeline(options)
    let console = Console(json: options.json)
    if options.scheduler == nil, let note = pipeline.bundle.manifest.schedulerNote { Console.error(note) }
    for number in 0..<options.count {
        let request = try request(options, number: number)
        let target = outputURL(options, number: number)
        try checkWritable(target)
        for try await event in pipeline.generate(request) {
            try console.show(event, seed: request.seed)
            guard case .finished(let picture, let report) = event else { continue }
            try write(picture.png(metadata: metadata(report, of: pipeline.bundle)), to: target)
            console.written(target, report)
        }
    }
}

private func openPipeline(_ options: Options) async throws -> DiffusionPipeline {
    try await DiffusionPipeline(
        bundle: options.bundle, backend: options.backend, settings: options.settings,
        memoryPolicy: options.memoryPolicy, checking: options.checking)
}

private func request(_ options: Options, number: Int) throws -> GenerationRequest {
    let start = try options.startImage.map { url in
        let data: Data
        do {
            data = try ForeignFile.read(url, name: url.path, most: 4 * Limits.pixels * Limits.pixels)
        } catch DiffusionError.unusableFile(_, let reason) {
            throw UsageError(description: "\(url.path): \(reason); give a PNG file")
        } catch is DiffusionError {
            throw UsageError(description: "\(url.path): cannot be read; give a PNG file")
        }
        return StartImage(picture: try Picture(png: data), strength: options.strength)
    }
    return GenerationRequest(
        prompt: options.prompt, negativePrompt: options.negativePrompt, steps: options.steps,
        guidance: options.guidance, seed: options.seed &+ UInt32(number), scheduler: options.scheduler,
        size: options.size, randomSource: options.randomSource, startImage: start, previewEvery: 0)
}

/// Where the picture goes: the file asked for, numbered where there are several.
func outputURL(_ options: Options, number: Int) -> URL {
    let words = options.prompt.lowercased().map { $0.isLetter || $0.isNumber ? $0 : "-" }
    let stem = String(String(words).trimmingCharacters(in: ["-"]).prefix(60))
    let base = options.output ?? URL(fileURLWithPath: (stem.isEmpty ? "picture" : stem) + ".png")
    guard options.count > 1 else { return base }
    let name = "\(base.deletingPathExtension().lastPathComponent)-\(number + 1)"
    return base.deletingLastPathComponent().appendingPathComponent(name).appendingPathExtension(
        base.pathExtension.isEmpty ? "png" : base.pathExtension)
}

/// Everything that is needed to make the same picture again, under Python's names.
private func metadata(_ report: GenerationReport, of bundle: ModelBundle) -> [String: String] {
    let request = report.request
    return [
        "prompt": request.prompt,
        "negative_prompt": request.negativePrompt,
        "steps": request.steps.map(String.init) ?? "",
        "guidance": request.guidance.map { "\($0)" } ?? "",
        "seed": String(request.seed),
        "scheduler": request.scheduler?.rawValue ?? "",
        "random_source": request.randomSource.rawValue,
        "model": bundle.manifest.model?.name ?? bundle.url.lastPathComponent,
        "config": bundle.manifest.model?.configDigest ?? "",
        "runtime": report.backend,
        "software": "coreml-sd-run \(packageVersion)",
    ]
}

private func checkWritable(_ target: URL) throws {
    let folder = target.deletingLastPathComponent()
    do {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
        throw UsageError(description: "\(folder.path): cannot be made; choose another --output")
    }
    guard FileManager.default.isWritableFile(atPath: folder.path) else {
        throw UsageError(description: "\(target.path): cannot be written; choose another --output")
    }
}

/// A reader sees the whole picture or none.
private func write(_ data: Data, to target: URL) throws {
    do {
        try data.write(to: target, options: .atomic)
    } catch {
        throw UsageError(description: "\(target.path): cannot be written; choose another --output")
    }
}
