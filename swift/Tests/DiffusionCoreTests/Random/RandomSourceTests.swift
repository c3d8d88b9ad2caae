import DiffusionTestSupport
import Testing

@testable import DiffusionCore

private struct NoiseFixture: Decodable {
    var torch: [Drawn]
    var numpy: [Drawn]
    var cuda: [Drawn]
    var philox: [PhiloxAnswer]
    var cuda_printed: [Printed]

    /// Consecutive calls of one source; of each call every `stride`-th number.
    struct Drawn: Decodable {
        var seed: UInt32
        var stride: Int
        var counts: [Int]
        var calls: [[Float]]
    }

    struct PhiloxAnswer: Decodable {
        var counter: [UInt32]
        var key: [UInt32]
        var answer: [UInt32]
    }

    struct Printed: Decodable {
        var source: String
        var seed: UInt32
        var tolerance: Float
        var calls: [Call]

        struct Call: Decodable {
            var count: Int
            var indices: [Int]
            var numbers: [Float]
        }
    }
}

/// The largest distance to the library's numbers in ulps, and how many differ at all.
private func worst(
    _ drawn: [NoiseFixture.Drawn], _ source: (UInt32) -> any RandomSource
) -> (ulps: Int, different: Int, numbers: Int) {
    var result = (ulps: 0, different: 0, numbers: 0)
    for run in drawn {
        var source = source(run.seed)
        for (count, expected) in zip(run.counts, run.calls) {
            let noise = source.normal(count)
            #expect(noise.count == count)
            for (index, number) in expected.enumerated() {
                let distance = ulps(noise[index * run.stride], number)
                result.ulps = max(result.ulps, distance)
                result.different += distance == 0 ? 0 : 1
                result.numbers += 1
            }
        }
    }
    return result
}

@Suite struct RandomSourceTests {
    private let fixture: NoiseFixture

    init() throws {
        fixture = try Fixtures.load("noise")
    }

    private func drawn(_ name: RandomSourceName) -> [NoiseFixture.Drawn] {
        switch name {
        case .torch: fixture.torch
        case .numpy: fixture.numpy
        case .cuda: fixture.cuda
        }
    }

    @Test(arguments: RandomSourceName.allCases)
    func drawsTheNumbersOfTheLibrary(name: RandomSourceName) {
        let error = worst(drawn(name)) { name.source(seed: $0) }
        #expect(error.numbers > 5000)
        #expect(error.ulps <= 1)
    }

    @Test(arguments: RandomSourceName.allCases)
    func anotherSeedIsNoticed(name: RandomSourceName) {
        #expect(worst(drawn(name)) { name.source(seed: $0 ^ 1) }.ulps > 1000)
    }

    @Test func anotherLibraryIsNoticed() {
        #expect(worst(fixture.torch) { RandomSourceName.numpy.source(seed: $0) }.ulps > 1000)
        #expect(worst(fixture.cuda) { RandomSourceName.torch.source(seed: $0) }.ulps > 1000)
    }

    @Test func torchKeepsTheSecondOfAPairBetweenShortCalls() {
        var whole = TorchRandomSource(seed: 3)
        var parts = TorchRandomSource(seed: 3)
        #expect(whole.normal(4) == parts.normal(1) + parts.normal(3))
        var blocks = TorchRandomSource(seed: 3)
        #expect(whole.normal(16) != blocks.normal(20).suffix(16))
    }

    @Test func philoxGivesThePublishedAnswers() {
        for example in fixture.philox {
            let block = Philox.block(
                counter: SIMD4(example.counter[0], example.counter[1], example.counter[2], example.counter[3]),
                key: SIMD2(example.key[0], example.key[1]))
            #expect([block.x, block.y, block.z, block.w] == example.answer)
        }
        #expect(fixture.philox.count == 3)
    }

    @Test func cudaGivesWhatWasPrintedFromGPUs() {
        for printed in fixture.cuda_printed {
            var source = CUDARandomSource(seed: printed.seed)
            for call in printed.calls {
                let noise = source.normal(call.count)
                for (index, number) in zip(call.indices, call.numbers) {
                    #expect(abs(noise[index] - number) <= printed.tolerance, "\(printed.source), \(index)")
                }
            }
        }
    }

    @Test(arguments: RandomSourceName.allCases)
    func aCopyGoesItsOwnWay(name: RandomSourceName) {
        var source = name.source(seed: 5)
        var copy = source
        #expect(source.normal(100) == copy.normal(100))
        #expect(source.normal(0).isEmpty)
        #expect(source.normal(20) == copy.normal(20))
    }
}

/// How many fp32 numbers lie between two.
private func ulps(_ a: Float, _ b: Float) -> Int {
    func position(_ x: Float) -> Int {
        let bits = Int(x.bitPattern & 0x7fff_ffff)
        return x.sign == .minus ? -bits : bits
    }
    return abs(position(a) - position(b))
}
