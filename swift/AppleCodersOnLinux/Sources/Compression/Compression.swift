import CZlib

// What AppleDeflate uses of Apple's Compression, with the names and types of its documentation.
// The work is done by zlib, as raw DEFLATE of level 5.

public struct compression_algorithm: Equatable, Sendable { let rawValue: UInt32 }
public let COMPRESSION_ZLIB = compression_algorithm(rawValue: 0x205)

public struct compression_stream_operation: Equatable, Sendable { let rawValue: UInt32 }
public let COMPRESSION_STREAM_ENCODE = compression_stream_operation(rawValue: 0)
public let COMPRESSION_STREAM_DECODE = compression_stream_operation(rawValue: 1)

public struct compression_stream_flags: Equatable, Sendable { public let rawValue: UInt32 }
public let COMPRESSION_STREAM_FINALIZE = compression_stream_flags(rawValue: 1)

public struct compression_status: Equatable, Sendable { let rawValue: Int32 }
public let COMPRESSION_STATUS_OK = compression_status(rawValue: 0)
public let COMPRESSION_STATUS_ERROR = compression_status(rawValue: -1)
public let COMPRESSION_STATUS_END = compression_status(rawValue: 1)

public struct compression_stream {
    public var dst_ptr: UnsafeMutablePointer<UInt8>
    public var dst_size: Int
    public var src_ptr: UnsafePointer<UInt8>
    public var src_size: Int
    public var state: UnsafeMutableRawPointer?

    public init(
        dst_ptr: UnsafeMutablePointer<UInt8>, dst_size: Int, src_ptr: UnsafePointer<UInt8>,
        src_size: Int, state: UnsafeMutableRawPointer?
    ) {
        self.dst_ptr = dst_ptr
        self.dst_size = dst_size
        self.src_ptr = src_ptr
        self.src_size = src_size
        self.state = state
    }
}

public func compression_stream_init(
    _ stream: UnsafeMutablePointer<compression_stream>, _ operation: compression_stream_operation,
    _ algorithm: compression_algorithm
) -> compression_status {
    guard algorithm == COMPRESSION_ZLIB, let coder = Coder(encodes: operation == COMPRESSION_STREAM_ENCODE)
    else { return COMPRESSION_STATUS_ERROR }
    stream.pointee.state = Unmanaged.passRetained(coder).toOpaque()
    // As in Apple's, the fields are for the caller to set afterwards.
    stream.pointee.src_size = .min
    stream.pointee.dst_size = .min
    return COMPRESSION_STATUS_OK
}

public func compression_stream_process(
    _ stream: UnsafeMutablePointer<compression_stream>, _ flags: Int32
) -> compression_status {
    guard let state = stream.pointee.state else { return COMPRESSION_STATUS_ERROR }
    let coder = Unmanaged<Coder>.fromOpaque(state).takeUnretainedValue()
    return coder.process(&stream.pointee, isLast: flags == Int32(COMPRESSION_STREAM_FINALIZE.rawValue))
}

@discardableResult
public func compression_stream_destroy(_ stream: UnsafeMutablePointer<compression_stream>) -> compression_status {
    guard let state = stream.pointee.state else { return COMPRESSION_STATUS_ERROR }
    Unmanaged<Coder>.fromOpaque(state).release()
    stream.pointee.state = nil
    return COMPRESSION_STATUS_OK
}

/// The state of a stream.
private final class Coder {
    private let zlib = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    private let encodes: Bool

    init?(encodes: Bool) {
        self.encodes = encodes
        zlib.initialize(to: z_stream())
        let version = ZLIB_VERSION, size = Int32(MemoryLayout<z_stream>.size)
        // Negative bits of the window: without zlib's header and checksum.
        let status =
            encodes
            ? deflateInit2_(zlib, 5, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY, version, size)
            : inflateInit2_(zlib, -15, version, size)
        guard status == Z_OK else { return nil }
    }

    deinit {
        _ = encodes ? deflateEnd(zlib) : inflateEnd(zlib)
        zlib.deallocate()
    }

    func process(_ stream: inout compression_stream, isLast: Bool) -> compression_status {
        zlib.pointee.next_in = UnsafeMutablePointer(mutating: stream.src_ptr)
        zlib.pointee.avail_in = UInt32(stream.src_size)
        zlib.pointee.next_out = stream.dst_ptr
        zlib.pointee.avail_out = UInt32(stream.dst_size)
        let status = encodes ? deflate(zlib, isLast ? Z_FINISH : Z_NO_FLUSH) : inflate(zlib, Z_NO_FLUSH)
        let read = stream.src_size - Int(zlib.pointee.avail_in)
        let written = stream.dst_size - Int(zlib.pointee.avail_out)
        stream.src_ptr += read
        stream.src_size -= read
        stream.dst_ptr += written
        stream.dst_size -= written
        switch status {
        case Z_STREAM_END: return COMPRESSION_STATUS_END
        // Apple's decoder ends a stream that is cut off, where it is told that nothing follows.
        case Z_OK, Z_BUF_ERROR:
            let isCutOff = !encodes && isLast && stream.src_size == 0 && stream.dst_size > 0
            return isCutOff ? COMPRESSION_STATUS_END : COMPRESSION_STATUS_OK
        default: return COMPRESSION_STATUS_ERROR
        }
    }
}
