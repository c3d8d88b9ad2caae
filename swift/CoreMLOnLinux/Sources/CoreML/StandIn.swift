import Foundation
import Synchronization

/// A stand-in for Apple's Core ML, for tests where there is none.
///
/// It declares exactly what CoreMLDiffusion uses, with the signatures of Apple's Swift interface
/// (iOS 18 SDK), so that those sources are type-checked and their logic is run on Linux. No class
/// is more `Sendable` here than there. It computes nothing: a "package" is a folder with a
/// `stand-in.json` that says which interface to declare and how to behave. It shows that the calls
/// are made as meant, not what Core ML makes of them.
public struct StandInModel: Codable, Sendable {
    /// Where to fail.
    public enum Failure: String, Codable, Sendable {
        case compile, load, predict
    }

    /// One output: `scale * input + offset` for each element, in row-major order; an input of fewer
    /// elements is repeated.
    public struct Output: Codable, Sendable {
        public var feature: Feature
        public var input: String
        public var scale: Float
        public var offset: Float
        /// Elements of memory between two rows of the last dimension that belong to neither.
        public var padding: Int

        public init(
            _ feature: Feature, from input: String, scale: Float = 1, offset: Float = 0,
            padding: Int = 0
        ) {
            self.feature = feature
            self.input = input
            self.scale = scale
            self.offset = offset
            self.padding = padding
        }
    }

    public struct Feature: Codable, Sendable {
        /// Empty for a feature that is no array.
        public var shape: [Int]
        /// `float16`, `float32`, `float64` or `int32`.
        public var type: String

        public init(_ shape: [Int], _ type: String) {
            self.shape = shape
            self.type = type
        }
    }

    public static let fileName = "stand-in.json"

    public var inputs: [String: Feature]
    public var outputs: [String: Output]
    public var failure: Failure?
    /// Time that compiling takes.
    public var compileSeconds: Double

    public init(
        inputs: [String: Feature], outputs: [String: Output], failure: Failure? = nil,
        compileSeconds: Double = 0
    ) {
        self.inputs = inputs
        self.outputs = outputs
        self.failure = failure
        self.compileSeconds = compileSeconds
    }

    /// Write a package, or a compiled model.
    public func write(to folder: URL) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try JSONEncoder().encode(self).write(to: folder.appendingPathComponent(Self.fileName))
    }

    static func read(_ folder: URL) throws -> StandInModel {
        let file = folder.appendingPathComponent(fileName)
        return try JSONDecoder().decode(StandInModel.self, from: try Data(contentsOf: file))
    }
}

/// What the stand-in was asked for.
public enum StandInCall: Sendable, Equatable {
    case compile(URL)
    case load(URL, Configuration)
    /// The address of the memory of each input.
    case predict(URL, [String: UInt])
    /// A loaded model was freed.
    case free(URL)

    /// What a load was told.
    public struct Configuration: Sendable, Equatable {
        public var computeUnits: MLComputeUnits
        public var functionName: String?
        public var displayName: String?
        public var hints: MLOptimizationHints
        public var lowPrecision: Bool
    }
}

/// Every call since the start of the process.
public final class StandInLog: Sendable {
    public static let shared = StandInLog()

    private let log = Mutex<[StandInCall]>([])
    /// The thread sanitizer sees this lock; it knows nothing of `Mutex`, and would find a race in it.
    private let lock = NSLock()

    public var calls: [StandInCall] {
        lock.withLock { log.withLock { $0 } }
    }

    func add(_ call: StandInCall) {
        lock.withLock { log.withLock { $0.append(call) } }
    }
}

/// An error as Core ML would give one: two lines, no type of its own.
struct StandInError: LocalizedError {
    var errorDescription: String?
}
