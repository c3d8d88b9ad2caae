import Diffusion

/// An error as one line and an exit status.
struct Failure: Equatable {
    var line: String
    /// 2 for what the user can put right, 1 for the rest.
    var status: Int32

    init(_ error: any Error) {
        switch error {
        case let error as UsageError:
            (line, status) = (error.description, 2)
        case let error as DiffusionError:
            line = error.description
            switch error {
            case .backendFailed, .notFinite, .wrongInput: status = 1
            default: status = 2
            }
        case is CancellationError:
            (line, status) = ("stopped", 1)
        default:
            (line, status) = ("\(error)".split(separator: "\n").first.map(String.init) ?? "failed", 1)
        }
    }
}
