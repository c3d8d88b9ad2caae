#if canImport(CoreML)
import Foundation

/// An uncompiled model as the cache knows it.
struct SourceFile: Sendable {
    let url: URL
    /// Stands for what is in it, as a name of a folder.
    let content: String
    /// Where it is, in words that survive an update of the app (which moves its container).
    let place: String

    /// - Throws: what listing the files of a package throws.
    init(_ url: URL, contentHash: String) throws {
        self.url = url
        content = contentHash.isEmpty ? try fingerprint(of: url) : contentHash
        place = relativePath(of: url)
    }
}

/// Stands for the content of a package that comes without a hash: its place, and names, sizes and
/// dates of its files. Reading gigabytes of weights at every start would take longer than compiling.
private func fingerprint(of package: URL) throws -> String {
    let files = FileManager.default
    let names = ((try? files.subpathsOfDirectory(atPath: package.path)) ?? []).sorted()
    let lines = try ([""] + names).map { name in
        let attributes = try files.attributesOfItem(
            atPath: package.appendingPathComponent(name).path)
        let date = (attributes[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
        let size = (attributes[.size] as? NSNumber)?.int64Value ?? 0
        return "\(name) \(size) \(date)"
    }
    let text = relativePath(of: package) + lines.joined(separator: "\n")
    let hash = text.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { hash, byte in  // FNV-1a
        (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
    }
    return "dated-" + String(hash, radix: 16)
}

private func relativePath(of url: URL) -> String {
    let path = url.standardizedFileURL.path
    for (word, root) in [("app", Bundle.main.bundlePath), ("home", NSHomeDirectory())]
    where path.hasPrefix(root + "/") {
        return word + path.dropFirst(root.count)
    }
    return path
}

/// The build of the operating system, as a name of a folder. Core ML's compiled form may change
/// with each.
func currentOSBuild() -> String {
    let name = kernelBuild() ?? ProcessInfo.processInfo.operatingSystemVersionString
    return String(name.map { $0.isLetter || $0.isNumber || $0 == "." ? $0 : "-" })
}

private func kernelBuild() -> String? {
    #if canImport(Darwin)
    var size = 0
    guard sysctlbyname("kern.osversion", nil, &size, nil, 0) == 0, size > 1 else { return nil }
    var bytes = [UInt8](repeating: 0, count: size)
    guard sysctlbyname("kern.osversion", &bytes, &size, nil, 0) == 0 else { return nil }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    #else
    return nil
    #endif
}
#endif
