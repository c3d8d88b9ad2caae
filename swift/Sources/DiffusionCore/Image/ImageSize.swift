/// Height and width of a picture in pixels.
public struct ImageSize: Sendable, Hashable, Codable, CustomStringConvertible {
    public var height: Int
    public var width: Int

    public init(height: Int, width: Int) {
        self.height = height
        self.width = width
    }

    /// Height first, as `coreml-sd convert --size` takes it.
    public var description: String { "\(height)x\(width)" }
}
