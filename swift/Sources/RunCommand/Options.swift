import Diffusion
import Foundation

/// What the command line asks for.
struct Options: Equatable {
    var prompt = ""
    var bundle = URL(fileURLWithPath: "demo.bundle")
    var backend = BackendChoice.automatic
    var settings = BackendSettings()
    var memoryPolicy: MemoryPolicy?
    var checking = ModelBundle.FileCheck.checksums
    var negativePrompt = ""
    var steps: Int?
    var guidance: Float?
    var seed: UInt32 = 0
    var scheduler: SchedulerName?
    var randomSource = RandomSourceName.torch
    var size: ImageSize?
    var startImage: URL?
    var strength: Float = 0.8
    var count = 1
    var output: URL?
    var json = false
}

/// A mistake on the command line, in one line.
struct UsageError: Error, Equatable, CustomStringConvertible {
    var description: String
}

/// What a command line comes to.
enum Invocation: Equatable {
    case draw(Options)
    case help
    case version
}

/// One option of the command: its names, the word for its value (nil for a switch), what it does.
private struct Flag {
    let names: [String]
    let value: String?
    let help: String
    let apply: @Sendable (inout Options, String) throws -> Void

    init(
        _ names: String..., value: String? = nil, help: String,
        apply: @escaping @Sendable (inout Options, String) throws -> Void
    ) {
        self.names = names
        self.value = value
        self.help = help
        self.apply = apply
    }
}

private let flags: [Flag] = [
    Flag("--bundle", value: "FOLDER", help: "What `coreml-sd convert` wrote. [default: demo.bundle]") {
        $0.bundle = URL(fileURLWithPath: $1)
    },
    Flag("--backend", value: names(BackendChoice.self), help: "Who runs the files. [default: auto]") {
        $0.backend = try choice($1, of: "--backend")
    },
    Flag("--library", value: "FILE", help: "LiteRT's library, where it is not found by itself.") {
        $0.settings.library = URL(fileURLWithPath: $1)
    },
    Flag("--accelerator", value: names(BackendSettings.Accelerator.self), help: "Of LiteRT. [default: cpu]") {
        $0.settings.accelerator = try choice($1, of: "--accelerator")
    },
    Flag("--threads", value: "N", help: "Of LiteRT on the CPU. [default: the fast cores, up to 4]") {
        $0.settings.threads = try number($1, of: "--threads")
    },
    Flag(
        "--compute-units", value: names(BackendSettings.ComputeUnits.self),
        help: "Of Core ML. [default: all]"
    ) { $0.settings.computeUnits = try choice($1, of: "--compute-units") },
    Flag(
        "--memory-policy", value: names(MemoryPolicy.self),
        help: "What stays loaded. [default: what fits]"
    ) { $0.memoryPolicy = try choice($1, of: "--memory-policy") as MemoryPolicy },
    Flag("--no-check", help: "Do not compare the files with the manifest first.") { options, _ in
        options.checking = .nothing
    },
    Flag("--negative", value: "TEXT", help: "What to keep out of the picture.") { $0.negativePrompt = $1 },
    Flag("--steps", value: "N", help: "Denoising steps. [default: the model's advice]") {
        $0.steps = try number($1, of: "--steps")
    },
    Flag("--guidance", value: "X", help: "1 switches it off. [default: the model's advice]") {
        $0.guidance = try number($1, of: "--guidance")
    },
    Flag("--seed", value: "N", help: "Of the first picture. [default: 0]") {
        $0.seed = try number($1, of: "--seed")
    },
    Flag("--scheduler", value: names(SchedulerName.self), help: "[default: the model's own]") {
        $0.scheduler = try choice($1, of: "--scheduler") as SchedulerName
    },
    Flag(
        "--random-source", value: names(RandomSourceName.self),
        help: "Whose noise the seed stands for. [default: torch]"
    ) { $0.randomSource = try choice($1, of: "--random-source") },
    Flag("--size", value: "HxW", help: "One of the bundle's sizes. [default: its first]") {
        $0.size = try size($1)
    },
    Flag("--start-image", value: "PNG", help: "Draw over this picture (img2img).") {
        $0.startImage = URL(fileURLWithPath: $1)
    },
    Flag("--strength", value: "X", help: "How much of it may go, 0 to 1. [default: 0.8]") {
        $0.strength = try number($1, of: "--strength")
    },
    Flag("-n", "--count", value: "N", help: "Pictures, seeds counting up. [default: 1]") {
        $0.count = try number($1, of: "--count")
    },
    Flag("-o", "--output", value: "PNG", help: "[default: from the prompt]") {
        $0.output = URL(fileURLWithPath: $1)
    },
    Flag("--json", help: "Events as JSON, one a line, instead of progress.") { options, _ in
        options.json = true
    },
]

/// Read a command line.
///
/// - Throws: ``UsageError``.
func parse(_ arguments: [String]) throws -> Invocation {
    var options = Options()
    var words: [String] = []
    var rest = arguments[...]
    while let argument = rest.popFirst() {
        if ["-h", "--help"].contains(argument) { return .help }
        if argument == "--version" { return .version }
        if argument == "--" {
            words += rest
            break
        }
        guard argument.hasPrefix("-"), argument.count > 1 else {
            words.append(argument)
            continue
        }
        try apply(argument, &rest, to: &options)
    }
    guard words.count <= 1 else {
        throw UsageError(description: "one prompt only; put it in quotes (got \(words.count) words)")
    }
    options.prompt = words.first ?? ""
    guard !options.prompt.allSatisfy(\.isWhitespace) else {
        throw UsageError(description: "the prompt is empty; say what to draw")
    }
    guard options.count >= 1 else { throw UsageError(description: "--count \(options.count): give a number from 1") }
    return .draw(options)
}

/// The text of `--help`.
let helpText: String = {
    let lines = flags.map { flag in
        let usage = flag.names.joined(separator: ", ") + (flag.value.map { " " + $0 } ?? "")
        return usage.count < 24
            ? "  " + usage.padding(toLength: 24, withPad: " ", startingAt: 0) + flag.help
            : "  \(usage)\n" + String(repeating: " ", count: 26) + flag.help
    }
    return """
        Usage: coreml-sd-run PROMPT [options]

        Draw PROMPT from a bundle. The same seed gives the same picture as `coreml-sd generate`.

        Options:
        \(lines.joined(separator: "\n"))
          --version               The package's version.
          -h, --help              This text.

        Examples:
          coreml-sd-run "a zebra on a blue background"
          coreml-sd-run "a castle" --bundle sd15.bundle --steps 25 --seed 7 -o castle.png
          coreml-sd-run "a castle" --backend litert --scheduler euler -n 4 --json
          coreml-sd-run "a castle in winter" --start-image castle.png --strength 0.6
        """
}()

private func apply(_ argument: String, _ rest: inout ArraySlice<String>, to options: inout Options) throws {
    let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard let flag = flags.first(where: { $0.names.contains(parts[0]) }) else {
        throw UsageError(description: "no option \(parts[0]); see --help")
    }
    guard flag.value != nil else {
        guard parts.count == 1 else { throw UsageError(description: "\(parts[0]) takes no value") }
        return try flag.apply(&options, "")
    }
    guard let value = parts.count == 2 ? parts[1] : rest.popFirst() else {
        throw UsageError(description: "\(parts[0]) needs a value; see --help")
    }
    try flag.apply(&options, value)
}

private func names<Choice: CaseIterable & RawRepresentable>(_: Choice.Type) -> String
where Choice.RawValue == String {
    Choice.allCases.map(\.rawValue).joined(separator: "|")
}

private func choice<Choice: CaseIterable & RawRepresentable>(_ text: String, of flag: String) throws -> Choice
where Choice.RawValue == String {
    guard let value = Choice(rawValue: text) else {
        let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        throw UsageError(description: "\(flag) \(text): choose from \(known)")
    }
    return value
}

private func number<Value: LosslessStringConvertible>(_ text: String, of flag: String) throws -> Value {
    guard let value = Value(text) else { throw UsageError(description: "\(flag) \(text): not a number that it takes") }
    return value
}

private func size(_ text: String) throws -> ImageSize {
    let sides = text.lowercased().split(separator: "x").compactMap { Int($0) }
    guard sides.count == 2, sides.allSatisfy({ $0 > 0 }) else {
        throw UsageError(description: "--size \(text): give height x width, such as 512x768")
    }
    return ImageSize(height: sides[0], width: sides[1])
}
