import Foundation

#if os(iOS) || os(tvOS) || os(watchOS) || os(visionOS)
import os
#endif

/// Memory that a process may still take before the system steps in.
public enum AvailableMemory {
    /// Bytes, at this moment.
    ///
    /// - iOS and its relatives: what is left until the app is ended (`os_proc_available_memory`).
    /// - macOS: half of the physical memory; what is not free now is swapped or given back.
    /// - Linux and Android: `MemAvailable`, or what the control group still allows if that is less.
    public static var bytes: Int {
        #if os(iOS) || os(tvOS) || os(watchOS) || os(visionOS)
        let left = Int(os_proc_available_memory())
        return left > 0 ? left : halfOfPhysical
        #elseif os(Linux) || os(Android)
        return LinuxMemory(root: URL(fileURLWithPath: "/")).available ?? halfOfPhysical
        #else
        return halfOfPhysical
        #endif
    }

    private static var halfOfPhysical: Int { Int(ProcessInfo.processInfo.physicalMemory / 2) }
}
