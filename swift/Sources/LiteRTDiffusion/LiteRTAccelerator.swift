import Foundation

#if canImport(Darwin)
import Darwin
#endif

/// What LiteRT computes on.
public enum LiteRTAccelerator: Sendable, Hashable {
    /// The CPU; nil takes ``defaultThreads``.
    case cpu(threads: Int? = nil)
    /// The GPU, in fp16, or in fp32 where `exact`. It needs LiteRT's accelerator library for the
    /// GPU in the folder of LiteRT's own.
    case gpu(exact: Bool = false)

    var isGPU: Bool {
        if case .gpu = self { true } else { false }
    }

    /// One thread for each fast core, four at most: slow cores hold the fast ones up, and more
    /// than four gain little on phones.
    public static let defaultThreads = min(4, max(1, fastCores))

    private static var fastCores: Int {
        #if canImport(Darwin)
        var count: Int32 = 0
        var size = MemoryLayout<Int32>.size
        if sysctlbyname("hw.perflevel0.physicalcpu", &count, &size, nil, 0) == 0, count > 0 {
            return Int(count)
        }
        return ProcessInfo.processInfo.activeProcessorCount
        #else
        return fastCores(of: speeds())
        #endif
    }

    /// Cores faster than the slowest kind; all where they are alike.
    static func fastCores(of speeds: [Int]) -> Int {
        guard let slowest = speeds.min() else { return ProcessInfo.processInfo.activeProcessorCount }
        let faster = speeds.count { $0 > slowest }
        // Cores that boost a little higher than others are the same kind.
        let fastest = speeds.max() ?? slowest
        return faster == 0 || Double(fastest) < 1.2 * Double(slowest)
            ? min(speeds.count, ProcessInfo.processInfo.activeProcessorCount) : faster
    }

    #if !canImport(Darwin)
    /// The highest frequency of each core, in kHz; empty where the system does not tell.
    private static func speeds() -> [Int] {
        (0..<ProcessInfo.processInfo.processorCount).compactMap { core in
            let path = "/sys/devices/system/cpu/cpu\(core)/cpufreq/cpuinfo_max_freq"
            let text = try? String(contentsOfFile: path, encoding: .utf8)
            return text.flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
        }
    }
    #endif
}
