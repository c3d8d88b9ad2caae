import DiffusionCore
import Foundation

/// Whether a file is a .tflite whose tables hang together: LiteRT trusts them, and what is damaged
/// would end the process. Field numbers are those of TFLite's schema (schema.fbs).
///
/// Weights are not read, so a large file takes no longer. What ops make of their options is not
/// checked; the manifest's checksums see every change.
enum TFLiteCheck {
    /// - Throws: ``DiffusionError/missingFile(name:)``, ``DiffusionError/unusableFile(name:reason:)``.
    static func check(_ url: URL) throws {
        let name = url.lastPathComponent
        try ForeignFile.size(of: url, name: name)
        guard let content = try? Data(contentsOf: url, options: .alwaysMapped) else {
            throw DiffusionError.unusableFile(name: name, reason: "it cannot be read")
        }
        guard content.withUnsafeBytes(isSound) else {
            throw DiffusionError.unusableFile(name: name, reason: "it is no whole .tflite")
        }
    }

    static func isSound(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 8, bytes[4..<8].elementsEqual("TFL3".utf8) else { return false }
        do {
            try checkModel(FlatTable(rootOf: bytes), fileSize: bytes.count)
            return true
        } catch {
            return false
        }
    }

    private static func checkModel(_ model: FlatTable, fileSize: Int) throws(FlatTable.Damage) {
        let codes = try model.tables(1)
        for code in codes { try checkCode(code) }
        let buffers = try model.tables(4)
        for buffer in buffers { try checkBuffer(buffer, fileSize: fileSize) }
        try model.checkString(3)
        try require(try model.integers(5).allSatisfy(buffers.indices.contains))
        for entry in try model.tables(6) {
            try entry.checkString(0)
            try require(Int(try entry.number(1, as: UInt32.self)) < max(1, buffers.count))
        }
        var tensorCounts: [Int] = []
        for graph in try model.tables(2) {
            tensorCounts.append(try checkGraph(graph, codes: codes.count, buffers: buffers.count))
        }
        try require(!tensorCounts.isEmpty)
        for signature in try model.tables(7) { try checkSignature(signature, tensorCounts: tensorCounts) }
    }

    private static func checkCode(_ code: FlatTable) throws(FlatTable.Damage) {
        try code.checkString(1)
        _ = try code.number(0, as: Int8.self)
        let kind = try code.number(3, as: Int32.self)
        try require((0..<1024).contains(kind))
    }

    /// Its bytes are inside the tables, or behind them in large files.
    private static func checkBuffer(_ buffer: FlatTable, fileSize: Int) throws(FlatTable.Damage) {
        try buffer.vector(0, elementSize: 1)
        let offset = try buffer.number(1, as: UInt64.self), size = try buffer.number(2, as: UInt64.self)
        let (end, overflow) = offset.addingReportingOverflow(size)
        try require(!overflow && end <= UInt64(fileSize))
    }

    /// The number of its tensors.
    private static func checkGraph(
        _ graph: FlatTable, codes: Int, buffers: Int
    ) throws(FlatTable.Damage) -> Int {
        let tensors = try graph.tables(0)
        for tensor in tensors { try checkTensor(tensor, buffers: buffers) }
        try graph.checkString(4)
        try require(try graph.integers(1).allSatisfy(tensors.indices.contains))
        try require(try graph.integers(2).allSatisfy(tensors.indices.contains))
        for op in try graph.tables(3) { try checkOp(op, codes: codes, tensors: tensors.count) }
        return tensors.count
    }

    private static func checkTensor(_ tensor: FlatTable, buffers: Int) throws(FlatTable.Damage) {
        let shape = try tensor.integers(0), signature = try tensor.integers(7)
        try require(shape.allSatisfy { $0 >= 0 } && (signature.isEmpty || signature.count == shape.count))
        try require(isReasonable(shape))
        try require(Int(try tensor.number(2, as: UInt32.self)) < max(1, buffers))
        try tensor.checkString(3)
        if let quantization = try tensor.table(4) {
            for field in 0..<3 { try quantization.vector(field, elementSize: 4) }
            try quantization.vector(3, elementSize: 8)
            _ = try quantization.table(5)
        }
        _ = try tensor.table(6)
    }

    /// Of a length of 0 LiteRT makes an empty tensor.
    static func isReasonable(_ shape: [Int]) -> Bool {
        var count = 1
        for length in shape {
            let (longer, overflow) = count.multipliedReportingOverflow(by: max(length, 1))
            guard !overflow, longer <= Limits.intermediateElements else { return false }
            count = longer
        }
        return shape.count <= Limits.rank
    }

    private static func checkOp(_ op: FlatTable, codes: Int, tensors: Int) throws(FlatTable.Damage) {
        try require(Int(try op.number(0, as: UInt32.self)) < codes)
        let optional = -1  // stands for an input that is left out
        try require(try op.integers(1).allSatisfy { (optional..<tensors).contains($0) })
        try require(try op.integers(2).allSatisfy { (0..<tensors).contains($0) })
        for (kind, options) in [(3, 4), (11, 12)] where try op.number(kind, as: UInt8.self) != 0 {
            _ = try op.table(options)
        }
        try op.vector(5, elementSize: 1)
        try op.vector(7, elementSize: 1)
        try require(try op.integers(8).allSatisfy { (optional..<tensors).contains($0) })
    }

    private static func checkSignature(
        _ signature: FlatTable, tensorCounts: [Int]
    ) throws(FlatTable.Damage) {
        let graph = Int(try signature.number(4, as: UInt32.self))
        try require(graph < tensorCounts.count)
        try signature.checkString(2)
        for side in [try signature.tables(0), try signature.tables(1)] {
            for entry in side {
                try entry.checkString(0)
                try require(Int(try entry.number(1, as: UInt32.self)) < tensorCounts[graph])
            }
        }
    }

    private static func require(_ condition: Bool) throws(FlatTable.Damage) {
        guard condition else { throw FlatTable.Damage() }
    }
}
