import DiffusionCore
import Foundation
import Testing

@testable import LiteRTDiffusion

private let demoBundle = TestLibrary.isHere ? ProcessInfo.processInfo.environment["DEMO_BUNDLE"] : nil

/// The .tflite files of the bundle that `DEMO_BUNDLE` names.
private let realFiles: [URL] = {
    guard let path = demoBundle else { return [] }
    let folder = URL(fileURLWithPath: path)
    let entries = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    return (entries ?? []).filter { $0.pathExtension == "tflite" }
        .sorted { $0.lastPathComponent < $1.lastPathComponent }
}()

@Suite("The networks of a converted bundle", .enabled(if: demoBundle != nil, "DEMO_BUNDLE names no bundle"))
struct RealBundleTests {
    /// Whole numbers from 0 to 15, so that they are tokens as well.
    func inputs(_ interface: NetworkInterface, shift: Int = 0) -> [String: Tensor] {
        interface.inputs.mapValues { info in
            let count = info.shape.reduce(1, *)
            return Tensor(shape: info.shape, values: (0..<count).map { Float(($0 * 7 + shift) % 16) })
        }
    }

    @Test("are all there") func number() {
        let needed = ["TextEncoder.tflite", "Unet.tflite", "VAEDecoder.tflite"]
        #expect(Set(realFiles.map(\.lastPathComponent)).isSuperset(of: needed), "\(demoBundle ?? "")")
    }

    @Test("give finite numbers of the shapes they declare, the same each time", arguments: realFiles)
    func outputs(url: URL) async throws {
        let backend = try LiteRTBackend.forTests()
        let first = try await backend.load(.of(url))
        let second = try await backend.load(.of(url))
        async let one = first.run(inputs(first.interface))
        async let other = second.run(inputs(first.interface))
        let outputs = try await one
        #expect(try await other == outputs)
        #expect(try await first.run(inputs(first.interface, shift: 3)) != outputs)
        #expect(outputs.mapValues(\.shape) == first.interface.outputs.mapValues(\.shape))
        #expect(outputs.values.filter { !$0.isFinite }.isEmpty)
    }
}
