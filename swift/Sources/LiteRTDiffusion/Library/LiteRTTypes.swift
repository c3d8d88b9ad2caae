// What of LiteRT's headers (litert/c/*.h) is used here; the same in 2.2 and 2.3.

/// LiteRtStatus; 0 is success.
typealias LiteRTStatus = Int32
/// A handle: an address that only LiteRT looks behind.
typealias LiteRTPointer = OpaquePointer

/// A call that LiteRT did not carry out.
struct LiteRTFailure: Error, CustomStringConvertible {
    static let unreadable: LiteRTStatus = 500
    static let invalidFile: LiteRTStatus = 501

    let status: LiteRTStatus

    var description: String {
        switch status {
        case 1: "invalid argument"
        case 2: "not enough memory"
        case 3: "runtime failure"
        case 5: "unsupported"
        case 6: "not found"
        case Self.unreadable: "the file cannot be read"
        case Self.invalidFile: "invalid file"
        case 502: "a library could not be loaded"
        case 504: "some ops are not taken by the accelerator"
        default: "status \(status)"
        }
    }
}

/// LiteRtHwAccelerators: a set of bits.
enum HardwareAccelerators {
    static let cpu: Int32 = 1
    static let gpu: Int32 = 2
}

/// LiteRtTensorBufferLockMode.
enum LockMode {
    static let read: Int32 = 0
    static let write: Int32 = 1
}

/// LiteRtEnvOption. The fields lie as in C: in order, each at its natural alignment.
struct EnvironmentOption {
    enum Tag {
        static let runtimeLibraryFolder: Int32 = 22
        static let accelerators: Int32 = 24
        static let lowestSeverity: Int32 = 25
    }

    /// LiteRtAny; of its union only integers and addresses are used.
    struct Value {
        var type: Int32
        var value: Int64
    }

    static let errorsOnly = Int64(3)

    var tag: Int32
    var value: Value

    init(_ tag: Int32, integer: Int64) {
        self.tag = tag
        value = Value(type: 2, value: integer)
    }

    /// - Parameter string: lives as long as the option.
    init(_ tag: Int32, string: UnsafePointer<CChar>) {
        self.tag = tag
        value = Value(type: 8, value: Int64(Int(bitPattern: string)))
    }
}

/// LiteRtRankedTensorType: 18 words of 32 bits. Element type; rank in the lowest seven bits;
/// eight dimensions; eight strides.
struct RankedTensorType {
    static let wordCount = 18
    private static let longestShape = 8

    var words = [Int32](repeating: 0, count: Self.wordCount)

    /// LiteRtElementType.
    var element: Int32 { words[0] }

    /// Length of each dimension; below 0 where it is known only when the network runs.
    var shape: [Int] {
        let rank = min(Int(words[1] & 0x7f), Self.longestShape)
        return words[2..<(2 + rank)].map(Int.init)
    }
}
