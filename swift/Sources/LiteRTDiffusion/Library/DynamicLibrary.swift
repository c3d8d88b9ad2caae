#if canImport(Darwin)
import Darwin
#elseif canImport(Android)
import Android
#elseif canImport(Bionic)
import Bionic
#elseif canImport(Musl)
import Musl
#elseif canImport(Glibc)
import Glibc
#endif

/// A library opened while the program runs. It is never closed: threads of it may live on.
struct DynamicLibrary {
    /// What the system's loader said.
    struct Failure: Error {
        let reason: String
    }

    private let handle: UnsafeMutableRawPointer

    /// - Parameter name: a path, or a name that the loader searches; nil stands for what the
    ///   program has loaded already.
    init(_ name: String?) throws(Failure) {
        let opened = if let name { dlopen(name, RTLD_NOW | RTLD_LOCAL) } else { dlopen(nil, RTLD_NOW) }
        guard let opened else { throw Failure(reason: Self.lastError) }
        handle = opened
    }

    /// Whether it exports this name.
    func has(_ name: String) -> Bool { dlsym(handle, name) != nil }

    /// An exported function. `Function` must be its C type, which nothing can check here.
    func function<Function>(
        _ name: String, as type: Function.Type = Function.self
    ) throws(Failure) -> Function {
        guard let address = dlsym(handle, name) else { throw Failure(reason: "it lacks \(name)") }
        return unsafeBitCast(address, to: type)
    }

    /// The file that an exported name comes from.
    func path(of name: String) -> String? {
        // Looked up by its name, because Swift's view of glibc lacks it. It fills Dl_info: four
        // pointers, the first of them the file's name.
        typealias Describe =
            @convention(c) (UnsafeRawPointer, UnsafeMutablePointer<UnsafeRawPointer?>) -> Int32
        guard let program = try? DynamicLibrary(nil),
            let describe = try? program.function("dladdr", as: Describe.self),
            let address = dlsym(handle, name)
        else { return nil }
        var info = [UnsafeRawPointer?](repeating: nil, count: 4)
        guard describe(address, &info) != 0, let file = info[0] else { return nil }
        return String(cString: file.assumingMemoryBound(to: CChar.self))
    }

    private static var lastError: String {
        dlerror().map { String(cString: $0) } ?? "it cannot be opened"
    }
}
