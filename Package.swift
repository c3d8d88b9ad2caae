// swift-tools-version: 6.0

import PackageDescription

let package = Package(
    name: "coreml-sd",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "Diffusion", targets: ["Diffusion"]),
        .library(name: "DiffusionCore", targets: ["DiffusionCore"]),
        .library(name: "CoreMLDiffusion", targets: ["CoreMLDiffusion"]),
        .library(name: "LiteRTDiffusion", targets: ["LiteRTDiffusion"]),
        .executable(name: "coreml-sd-run", targets: ["coreml-sd-run"]),
        .executable(name: "coreml-sd-bench", targets: ["coreml-sd-bench"]),
    ],
    targets: [
        // PNG, with Apple's Compression where it is.
        .target(name: "ImageFiles", path: "swift/Sources/ImageFiles"),
        // SHA-256, with Apple's CryptoKit where it is.
        .target(name: "FileDigests", path: "swift/Sources/FileDigests"),
        // Everything that needs no runtime: builds and runs on every platform.
        .target(
            name: "DiffusionCore",
            dependencies: ["ImageFiles", "FileDigests"],
            path: "swift/Sources/DiffusionCore",
            resources: [.copy("PrivacyInfo.xcprivacy")]
        ),
        // Empty where there is no Core ML.
        .target(
            name: "CoreMLDiffusion",
            dependencies: ["DiffusionCore"],
            path: "swift/Sources/CoreMLDiffusion"
        ),
        .target(
            name: "LiteRTDiffusion",
            dependencies: ["DiffusionCore"],
            path: "swift/Sources/LiteRTDiffusion"
        ),
        // What an app imports: the core, and the backend that suits the platform.
        .target(
            name: "Diffusion",
            dependencies: ["DiffusionCore", "CoreMLDiffusion", "LiteRTDiffusion"],
            path: "swift/Sources/Diffusion"
        ),
        .executableTarget(
            name: "coreml-sd-run", dependencies: ["RunCommand"], path: "swift/Sources/coreml-sd-run"),
        .target(
            name: "RunCommand", dependencies: ["Diffusion"], path: "swift/Sources/RunCommand"),
        .executableTarget(
            name: "coreml-sd-bench", dependencies: ["Diffusion"],
            path: "swift/Sources/coreml-sd-bench"),
        // What several test targets use.
        .target(name: "DiffusionTestSupport", path: "swift/Tests/DiffusionTestSupport"),
        .testTarget(
            name: "ImageFilesTests", dependencies: ["ImageFiles", "DiffusionTestSupport"],
            path: "swift/Tests/ImageFilesTests"),
        .testTarget(
            name: "FileDigestsTests", dependencies: ["FileDigests", "DiffusionTestSupport"],
            path: "swift/Tests/FileDigestsTests"),
        .testTarget(
            name: "DiffusionCoreTests",
            dependencies: ["DiffusionCore", "ImageFiles", "FileDigests", "DiffusionTestSupport"],
            path: "swift/Tests/DiffusionCoreTests"),
        .testTarget(
            name: "LiteRTDiffusionTests", dependencies: ["LiteRTDiffusion", "DiffusionTestSupport"],
            path: "swift/Tests/LiteRTDiffusionTests"),
        // The view model of examples/ios, with the backend that needs no models.
        .testTarget(
            name: "SampleAppTests", dependencies: ["Diffusion"],
            path: "swift/Tests/SampleAppTests"),
        .testTarget(
            name: "RunCommandTests", dependencies: ["RunCommand"],
            path: "swift/Tests/RunCommandTests", exclude: ["help.txt"]),
    ],
    swiftLanguageModes: [.v6]
)
