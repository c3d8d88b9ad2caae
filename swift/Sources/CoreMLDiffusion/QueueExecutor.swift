#if canImport(CoreML)
import Dispatch

/// Runs an actor on a dispatch queue.
///
/// A prediction blocks its thread for up to seconds, which the few threads that all tasks share are
/// not for.
final class QueueExecutor: SerialExecutor {
    private let queue: DispatchQueue

    init(label: String) {
        queue = DispatchQueue(label: label, qos: .userInitiated)
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}
#endif
