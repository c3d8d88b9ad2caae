/// Freed memory, given back to the system.
enum FreedMemory {
    private typealias Trim = @Sendable @convention(c) (Int) -> Int32

    // Only glibc has it, and Swift's view of glibc lacks it.
    private static let trim = try? DynamicLibrary(nil).function("malloc_trim", as: Trim.self)

    /// glibc keeps freed blocks for itself; the next network should find the memory free.
    static func giveBack() { _ = trim?(0) }
}
