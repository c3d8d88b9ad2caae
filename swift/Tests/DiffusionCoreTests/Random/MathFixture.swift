import Foundation

/// Golden vectors of the random sources and schedulers.
enum MathFixture {
    /// - Parameter name: of a file in tests/fixtures, without `.json`.
    static func load<Value: Decodable>(_ name: String, as type: Value.Type = Value.self) throws -> Value {
        let root = (0..<5).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
            url.deletingLastPathComponent()
        }
        let url = root.appendingPathComponent("tests/fixtures/\(name).json")
        return try JSONDecoder().decode(type, from: Data(contentsOf: url))
    }
}

/// How many fp32 numbers lie between two.
func ulps(_ a: Float, _ b: Float) -> Int {
    func position(_ x: Float) -> Int {
        let bits = Int(x.bitPattern & 0x7fff_ffff)
        return x.sign == .minus ? -bits : bits
    }
    return abs(position(a) - position(b))
}
