/// The functions of LiteRT's C library that are used here, with the C type of each.
struct LiteRTLibrary: Sendable {
    typealias Out = UnsafeMutablePointer<LiteRTPointer?>
    typealias Count = UnsafeMutablePointer<Int>
    typealias Name = UnsafeMutablePointer<UnsafePointer<CChar>?>
    typealias Numbers = UnsafeMutablePointer<Int32>

    typealias Destroy = @Sendable @convention(c) (LiteRTPointer?) -> Void
    typealias Make = @Sendable @convention(c) (Out) -> LiteRTStatus
    typealias GetCount = @Sendable @convention(c) (LiteRTPointer?, Count) -> LiteRTStatus
    typealias GetNumber = @Sendable @convention(c) (LiteRTPointer?, Numbers) -> LiteRTStatus
    typealias GetAt = @Sendable @convention(c) (LiteRTPointer?, Int, Out) -> LiteRTStatus
    typealias GetNameAt = @Sendable @convention(c) (LiteRTPointer?, Int, Name) -> LiteRTStatus
    typealias GetRequirements = @Sendable @convention(c) (LiteRTPointer?, Int, Int, Out) -> LiteRTStatus
    typealias CreateEnvironment = @Sendable @convention(c) (Int32, UnsafeRawPointer?, Out) -> LiteRTStatus
    typealias CreateModel =
        @Sendable @convention(c) (LiteRTPointer?, UnsafePointer<CChar>, Out) -> LiteRTStatus
    typealias Destructor = @convention(c) (UnsafeMutableRawPointer?) -> Void
    typealias CreateOpaqueOptions =
        @Sendable @convention(c) (UnsafePointer<CChar>, UnsafeMutableRawPointer?, Destructor, Out)
        -> LiteRTStatus
    typealias AddOptions = @Sendable @convention(c) (LiteRTPointer?, LiteRTPointer?) -> LiteRTStatus
    typealias SetNumber = @Sendable @convention(c) (LiteRTPointer?, Int32) -> LiteRTStatus
    typealias Compile =
        @Sendable @convention(c) (LiteRTPointer?, LiteRTPointer?, LiteRTPointer?, Out) -> LiteRTStatus
    typealias GetFlag = @Sendable @convention(c) (LiteRTPointer?, UnsafeMutablePointer<Bool>) -> LiteRTStatus
    typealias CreateBuffer =
        @Sendable @convention(c) (LiteRTPointer?, UnsafeRawPointer, LiteRTPointer?, Out) -> LiteRTStatus
    typealias Lock =
        @Sendable @convention(c) (LiteRTPointer?, UnsafeMutablePointer<UnsafeMutableRawPointer?>, Int32)
        -> LiteRTStatus
    typealias Unlock = @Sendable @convention(c) (LiteRTPointer?) -> LiteRTStatus
    typealias Run = @Sendable @convention(c) (LiteRTPointer?, Int, Int, Out, Int, Out) -> LiteRTStatus

    let createEnvironment: CreateEnvironment
    let destroyEnvironment: Destroy
    let getNumAccelerators: GetCount
    let getAccelerator: GetAt
    let getAcceleratorHardwareSupport: GetNumber

    let createModelFromFile: CreateModel
    let destroyModel: Destroy
    let getNumModelSignatures: GetCount
    let getModelSignature: GetAt
    let getNumSignatureInputs: GetCount
    let getNumSignatureOutputs: GetCount
    let getSignatureInputName: GetNameAt
    let getSignatureOutputName: GetNameAt
    let getSignatureInputTensorByIndex: GetAt
    let getSignatureOutputTensorByIndex: GetAt
    let getRankedTensorType: GetNumber

    let createOptions: Make
    let destroyOptions: Destroy
    let setOptionsHardwareAccelerators: SetNumber
    let createOpaqueOptions: CreateOpaqueOptions
    let addOpaqueOptions: AddOptions

    let createCompiledModel: Compile
    let destroyCompiledModel: Destroy
    let compiledModelIsFullyAccelerated: GetFlag
    let getCompiledModelInputBufferRequirements: GetRequirements
    let getCompiledModelOutputBufferRequirements: GetRequirements
    let runCompiledModel: Run

    let createBufferFromRequirements: CreateBuffer
    let destroyTensorBuffer: Destroy
    let getTensorBufferPackedSize: GetCount
    let lockTensorBuffer: Lock
    let unlockTensorBuffer: Unlock

    /// Find every function.
    init(in library: DynamicLibrary) throws(DynamicLibrary.Failure) {
        createEnvironment = try library.function("LiteRtCreateEnvironment")
        destroyEnvironment = try library.function("LiteRtDestroyEnvironment")
        getNumAccelerators = try library.function("LiteRtGetNumAccelerators")
        getAccelerator = try library.function("LiteRtGetAccelerator")
        getAcceleratorHardwareSupport = try library.function("LiteRtGetAcceleratorHardwareSupport")

        createModelFromFile = try library.function("LiteRtCreateModelFromFile")
        destroyModel = try library.function("LiteRtDestroyModel")
        getNumModelSignatures = try library.function("LiteRtGetNumModelSignatures")
        getModelSignature = try library.function("LiteRtGetModelSignature")
        getNumSignatureInputs = try library.function("LiteRtGetNumSignatureInputs")
        getNumSignatureOutputs = try library.function("LiteRtGetNumSignatureOutputs")
        getSignatureInputName = try library.function("LiteRtGetSignatureInputName")
        getSignatureOutputName = try library.function("LiteRtGetSignatureOutputName")
        getSignatureInputTensorByIndex = try library.function("LiteRtGetSignatureInputTensorByIndex")
        getSignatureOutputTensorByIndex = try library.function("LiteRtGetSignatureOutputTensorByIndex")
        getRankedTensorType = try library.function("LiteRtGetRankedTensorType")

        createOptions = try library.function("LiteRtCreateOptions")
        destroyOptions = try library.function("LiteRtDestroyOptions")
        setOptionsHardwareAccelerators = try library.function("LiteRtSetOptionsHardwareAccelerators")
        createOpaqueOptions = try library.function("LiteRtCreateOpaqueOptions")
        addOpaqueOptions = try library.function("LiteRtAddOpaqueOptions")

        createCompiledModel = try library.function("LiteRtCreateCompiledModel")
        destroyCompiledModel = try library.function("LiteRtDestroyCompiledModel")
        compiledModelIsFullyAccelerated = try library.function("LiteRtCompiledModelIsFullyAccelerated")
        getCompiledModelInputBufferRequirements =
            try library.function("LiteRtGetCompiledModelInputBufferRequirements")
        getCompiledModelOutputBufferRequirements =
            try library.function("LiteRtGetCompiledModelOutputBufferRequirements")
        runCompiledModel = try library.function("LiteRtRunCompiledModel")

        createBufferFromRequirements =
            try library.function("LiteRtCreateManagedTensorBufferFromRequirements")
        destroyTensorBuffer = try library.function("LiteRtDestroyTensorBuffer")
        getTensorBufferPackedSize = try library.function("LiteRtGetTensorBufferPackedSize")
        lockTensorBuffer = try library.function("LiteRtLockTensorBuffer")
        unlockTensorBuffer = try library.function("LiteRtUnlockTensorBuffer")
    }
}

extension LiteRTLibrary {
    /// Take the status of a call.
    static func check(_ status: LiteRTStatus) throws {
        guard status == 0 else { throw LiteRTFailure(status: status) }
    }

    /// The handle that a call gives in its last argument.
    static func made(_ call: (Out) -> LiteRTStatus) throws -> LiteRTPointer {
        var pointer: LiteRTPointer?
        try check(call(&pointer))
        guard let pointer else { throw LiteRTFailure(status: 3) }
        return pointer
    }

    /// The number that a call tells of a handle.
    static func count(_ call: GetCount, of handle: LiteRTPointer) throws -> Int {
        var number = 0
        try check(call(handle, &number))
        return number
    }
}
