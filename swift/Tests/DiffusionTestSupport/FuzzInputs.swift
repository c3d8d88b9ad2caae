import Foundation

/// How many damaged inputs the fuzz tests try, and which: `FUZZ_INPUTS` says how many in all,
/// `FUZZ_FIRST` the number of the first. The same number is the same input.
package enum FuzzInputs {
    package static let count = variable("FUZZ_INPUTS") ?? 2000
    package static let first = variable("FUZZ_FIRST") ?? 0

    private static func variable(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) }
    }
}
