/// Why packed bytes cannot be unpacked.
enum PackedDataError: Error {
    case cutOff, invalid, tooLong, wrongChecksum
}
