import Testing

@testable import FileDigests
@testable import ImageFiles

@Suite("With Compression and CryptoKit")
struct AppleCodersTests {
    @Test("it is they that are used")
    func used() {
        #expect(SystemDeflate.self == AppleDeflate.self)
        #expect(SystemSHA256.self == AppleSHA256.self)
    }

    @Test("a stream without an end is cut off, one that makes no sense is invalid")
    func damage() {
        #expect(throws: PackedDataError.cutOff) { try AppleDeflate.unpack([], from: 0, limit: 10) }
        // A block of the kind that does not exist.
        #expect(throws: PackedDataError.invalid) { try AppleDeflate.unpack([0x07], from: 0, limit: 10) }
    }
}
