/// A table of a FlatBuffer, read with every offset checked.
///
/// Fields are numbered by their order in the schema; one that is not stored has its default, 0 or
/// empty.
struct FlatTable {
    /// An offset or a length that leaves the file, or tables that share what they should have each.
    struct Damage: Error {}

    /// How much may still be read: tables that all point to one long vector would take for ever. A
    /// file's writer may let a few share one.
    private final class Allowance {
        var bytes: Int

        init(_ bytes: Int) { self.bytes = bytes }

        func take(_ count: Int) throws(Damage) {
            bytes -= count
            guard bytes >= 0 else { throw Damage() }
        }
    }

    private let allowance: Allowance

    private let bytes: UnsafeRawBufferPointer
    private let position: Int
    private let fields: Range<Int>
    private let size: Int

    /// The table that the first four bytes point to.
    init(rootOf bytes: UnsafeRawBufferPointer) throws(Damage) {
        try self.init(bytes, at: Self.target(bytes, at: 0), Allowance(16 * bytes.count))
    }

    private init(
        _ bytes: UnsafeRawBufferPointer, at position: Int, _ allowance: Allowance
    ) throws(Damage) {
        let directory = try position - Int(Self.load(Int32.self, bytes, position))
        let directorySize = try Int(Self.load(UInt16.self, bytes, directory))
        size = try Int(Self.load(UInt16.self, bytes, directory + 2))
        guard directorySize >= 4, directorySize % 2 == 0, directory + directorySize <= bytes.count,
            size >= 4, position + size <= bytes.count
        else { throw Damage() }
        try allowance.take(size)
        self.bytes = bytes
        self.allowance = allowance
        self.position = position
        fields = (directory + 4)..<(directory + directorySize)
    }

    func number<Number: FixedWidthInteger>(_ field: Int, as type: Number.Type) throws(Damage) -> Number {
        guard let place = try place(of: field, size: MemoryLayout<Number>.size) else { return 0 }
        return try Self.load(type, bytes, place)
    }

    func table(_ field: Int) throws(Damage) -> FlatTable? {
        guard let place = try place(of: field, size: 4) else { return nil }
        return try FlatTable(bytes, at: Self.target(bytes, at: place), allowance)
    }

    func tables(_ field: Int) throws(Damage) -> [FlatTable] {
        try elements(of: field) { place throws(Damage) in
            try FlatTable(bytes, at: Self.target(bytes, at: place), allowance)
        }
    }

    func integers(_ field: Int) throws(Damage) -> [Int] {
        try elements(of: field) { place throws(Damage) in try Int(Self.load(Int32.self, bytes, place)) }
    }

    /// What `read` makes of the place of each element of four bytes.
    private func elements<Element>(
        of field: Int, _ read: (Int) throws(Damage) -> Element
    ) throws(Damage) -> [Element] {
        let places = try vector(field, elementSize: 4)
        try allowance.take(places.count)
        var elements: [Element] = []
        for place in stride(from: places.lowerBound, to: places.upperBound, by: 4) {
            elements.append(try read(place))
        }
        return elements
    }

    /// Check a string: it ends with a zero.
    func checkString(_ field: Int) throws(Damage) {
        guard try place(of: field, size: 4) != nil else { return }
        let end = try vector(field, elementSize: 1).upperBound
        guard try Self.load(UInt8.self, bytes, end) == 0 else { throw Damage() }
    }

    /// The bytes of a vector; empty where it is not stored.
    @discardableResult
    func vector(_ field: Int, elementSize: Int) throws(Damage) -> Range<Int> {
        guard let place = try place(of: field, size: 4) else { return 0..<0 }
        let start = try Self.target(bytes, at: place)
        let length = try Int(Self.load(UInt32.self, bytes, start)) * elementSize
        guard start + 4 + length <= bytes.count else { throw Damage() }
        return (start + 4)..<(start + 4 + length)
    }

    private func place(of field: Int, size wanted: Int) throws(Damage) -> Int? {
        let entry = fields.lowerBound + 2 * field
        guard entry + 2 <= fields.upperBound else { return nil }
        let offset = try Int(Self.load(UInt16.self, bytes, entry))
        guard offset != 0 else { return nil }
        guard offset >= 4, offset + wanted <= size else { throw Damage() }
        return position + offset
    }

    private static func target(_ bytes: UnsafeRawBufferPointer, at place: Int) throws(Damage) -> Int {
        let offset = try Int(load(UInt32.self, bytes, place))
        guard offset >= 4, place + offset < bytes.count else { throw Damage() }
        return place + offset
    }

    private static func load<Number: FixedWidthInteger>(
        _ type: Number.Type, _ bytes: UnsafeRawBufferPointer, _ place: Int
    ) throws(Damage) -> Number {
        guard place >= 0, place + MemoryLayout<Number>.size <= bytes.count else { throw Damage() }
        return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: type))
    }
}
