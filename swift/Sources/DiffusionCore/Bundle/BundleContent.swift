import FileDigests

/// What the manifest says of all files at and below one path of a bundle.
struct BundleContent {
    /// Bytes of all files together.
    let bytes: Int
    /// SHA-256 in hex over the sorted relative paths and hashes: the same wherever the bundle lies
    /// and whatever the folder is called. Empty where no file is listed, or one has no hash.
    let hash: String

    init(of path: String, in files: [String: FileFacts]) {
        let folder = path + "/"
        let below: [(name: String, facts: FileFacts)] = files.compactMap { name, facts in
            if name == path { return ("", facts) }
            guard name.hasPrefix(folder) else { return nil }
            return (String(name.dropFirst(folder.count)), facts)
        }
        bytes = below.reduce(0) { $0 + $1.facts.bytes }
        guard !below.isEmpty, below.allSatisfy({ !$0.facts.sha256.isEmpty }) else {
            hash = ""
            return
        }
        let lines = below.map { "\($0.name)\n\($0.facts.sha256)\n" }.sorted()
        hash = SHA256Digest.hex(of: Array(lines.joined().utf8))
    }
}
