#if canImport(os)
import os
#endif

/// Marks the stages of a picture for Instruments; does nothing where there are no signposts.
struct Signposts: Sendable {
    #if canImport(os)
    private let signposter = OSSignposter(subsystem: "coreml-sd", category: "generation")
    #endif

    /// Run `work` as an interval of this name.
    func interval<Result>(
        _ name: StaticString, isolation: isolated (any Actor)? = #isolation,
        _ work: () async throws -> Result
    ) async rethrows -> Result {
        #if canImport(os)
        let state = signposter.beginInterval(name, id: signposter.makeSignpostID())
        defer { signposter.endInterval(name, state) }
        #endif
        return try await work()
    }
}
