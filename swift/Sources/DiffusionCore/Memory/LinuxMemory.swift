import Foundation

/// What the files of a Linux kernel say about memory.
struct LinuxMemory {
    /// `/`; another folder in tests.
    let root: URL

    /// The least of what the system and the control groups leave; nil where nothing says it.
    var available: Int? { ([system] + groups).compactMap { $0 }.min() }

    /// `MemAvailable` of /proc/meminfo.
    private var system: Int? {
        lines("proc/meminfo").firstNumber(after: "MemAvailable:").map { $0 * 1024 }
    }

    /// What each control group of the process leaves, from its own up to the root's: the process
    /// is held by all of them. Inside a container its own path may not be visible, the root is.
    private var groups: [Int?] {
        lines("proc/self/cgroup").flatMap { line -> [Int?] in
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { return [] }
            let folders = ancestors(String(parts[2]))
            if parts[1].isEmpty {
                return folders.map { left(in: "sys/fs/cgroup" + $0, .unified) }
            }
            guard parts[1].split(separator: ",").contains("memory") else { return [] }
            return folders.map { left(in: "sys/fs/cgroup/memory" + $0, .legacy) }
        }
    }

    /// `/a/b`, `/a` and the empty path.
    private func ancestors(_ path: String) -> [String] {
        let names = path.split(separator: "/")
        return (0...names.count).reversed().map { count in
            names.prefix(count).map { "/" + $0 }.joined()
        }
    }

    /// File names of control groups, version 2 and version 1.
    private struct Names {
        var limit, used, cache: String

        static let unified = Names(limit: "memory.max", used: "memory.current", cache: "inactive_file")
        static let legacy = Names(
            limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: "total_inactive_file")
    }

    /// The limit less what is used; cached pages of files that nobody touches do not count.
    private func left(in folder: String, _ names: Names) -> Int? {
        guard let limit = number("\(folder)/\(names.limit)"),
            let used = number("\(folder)/\(names.used)")
        else { return nil }
        let cache = lines("\(folder)/memory.stat").firstNumber(after: names.cache) ?? 0
        return max(0, limit - max(0, used - cache))
    }

    /// A file's one number; nil where there is none (`max`, no limit).
    private func number(_ path: String) -> Int? { lines(path).first.flatMap { Int($0) } }

    private func lines(_ path: String) -> [Substring] {
        let text = try? String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
        return text?.split(separator: "\n") ?? []
    }
}

extension [Substring] {
    /// The number that follows a word at the start of a line.
    fileprivate func firstNumber(after word: String) -> Int? {
        for line in self {
            let parts = line.split(separator: " ")
            if parts.count > 1, parts[0] == word { return Int(parts[1]) }
        }
        return nil
    }
}
