import DiffusionCore
import Foundation

/// A file that LiteRT has opened: one signature, nothing compiled yet.
final class LiteRTModel {
    let environment: LiteRTEnvironment
    let pointer: LiteRTPointer
    /// In the order of the file.
    let inputs: [DeclaredTensor]
    let outputs: [DeclaredTensor]

    init(_ url: URL, in environment: LiteRTEnvironment) throws {
        try TFLiteCheck.check(url)
        let library = environment.library
        let pointer = try LiteRTLibrary.made {
            library.createModelFromFile(environment.pointer, url.path, $0)
        }
        do {
            let signature = try Signature(of: pointer, library: library, file: url.lastPathComponent)
            (inputs, outputs) = (signature.inputs, signature.outputs)
        } catch {
            library.destroyModel(pointer)
            throw error
        }
        self.environment = environment
        self.pointer = pointer
    }

    /// The last of what was made for a file to go.
    deinit {
        environment.library.destroyModel(pointer)
        FreedMemory.giveBack()
    }

    var interface: NetworkInterface {
        func infos(_ tensors: [DeclaredTensor]) -> [String: TensorInfo] {
            Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.info) })
        }
        return NetworkInterface(inputs: infos(inputs), outputs: infos(outputs))
    }
}

/// An input or output as the file declares it.
struct DeclaredTensor {
    let name: String
    let info: TensorInfo
    let type: RankedTensorType

    init(name: String, type: RankedTensorType, file: String) throws {
        guard let dtype = DType(element: type.element) else {
            throw LiteRTBackend.failed(file, "\(name) has element type \(type.element), not a float or int32")
        }
        guard type.shape.allSatisfy({ $0 > 0 }) else {
            throw LiteRTBackend.failed(file, "the shape \(type.shape) of \(name) is not fixed")
        }
        self.name = name
        self.type = type
        info = TensorInfo(shape: type.shape, dtype: dtype)
        guard info.count != nil else {
            throw LiteRTBackend.failed(file, "\(name) of shape \(type.shape) asks for more than \(Limits.elements) numbers")
        }
    }
}

extension DType {
    /// From LiteRtElementType.
    init?(element: Int32) {
        switch element {
        case 1: self = .float32
        case 2: self = .int32
        case 10: self = .float16
        default: return nil
        }
    }
}

/// The names and tensors behind the only entry of a model.
private struct Signature {
    let inputs: [DeclaredTensor]
    let outputs: [DeclaredTensor]

    init(of model: LiteRTPointer, library: LiteRTLibrary, file: String) throws {
        let count = try LiteRTLibrary.count(library.getNumModelSignatures, of: model)
        guard count == 1 else {
            throw LiteRTBackend.failed(file, "\(count) signatures instead of one; convert again")
        }
        let signature = try LiteRTLibrary.made { library.getModelSignature(model, 0, $0) }
        func tensors(
            _ count: LiteRTLibrary.GetCount, _ name: LiteRTLibrary.GetNameAt, _ tensor: LiteRTLibrary.GetAt
        ) throws -> [DeclaredTensor] {
            try (0..<LiteRTLibrary.count(count, of: signature)).map { index in
                var text: UnsafePointer<CChar>?
                try LiteRTLibrary.check(name(signature, index, &text))
                let handle = try LiteRTLibrary.made { tensor(signature, index, $0) }
                var type = RankedTensorType()
                try LiteRTLibrary.check(library.getRankedTensorType(handle, &type.words))
                return try DeclaredTensor(
                    name: text.map { String(cString: $0) } ?? "", type: type, file: file)
            }
        }
        inputs = try tensors(
            library.getNumSignatureInputs, library.getSignatureInputName,
            library.getSignatureInputTensorByIndex)
        outputs = try tensors(
            library.getNumSignatureOutputs, library.getSignatureOutputName,
            library.getSignatureOutputTensorByIndex)
        for names in [inputs.map(\.name), outputs.map(\.name)] where Set(names).count != names.count {
            throw LiteRTBackend.failed(file, "two tensors have one name; convert again")
        }
    }
}
