import Dispatch

/// A thread of its own for an actor or for calls that take long.
///
/// A network blocks its thread for up to seconds, which the few threads that all tasks share are not
/// for. Made for backends.
public final class SerialQueue: SerialExecutor {
    private let queue: DispatchQueue

    public init(label: String) {
        queue = DispatchQueue(label: label, qos: .userInitiated)
    }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }

    /// The result of `work`, done on this queue.
    public func result<Value: Sendable>(
        of work: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try work() }) }
        }
    }
}
