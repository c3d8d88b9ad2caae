// swift-tools-version: 6.0

// Type-checks and tests what ImageFiles and FileDigests do with Apple's Compression and CryptoKit
// where there are none, against stand-in modules that declare what they use of them.

import PackageDescription

let package = Package(
    name: "AppleCodersOnLinux",
    targets: [
        .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "Compression", dependencies: ["CZlib"]),
        .target(name: "CryptoKit"),
        .target(name: "ImageFiles", dependencies: ["Compression"]),
        .target(name: "FileDigests", dependencies: ["CryptoKit"]),
        .target(name: "DiffusionTestSupport", path: "Tests/DiffusionTestSupport"),
        .testTarget(name: "ImageFilesTests", dependencies: ["ImageFiles", "DiffusionTestSupport"]),
        .testTarget(name: "FileDigestsTests", dependencies: ["FileDigests", "DiffusionTestSupport"]),
        .testTarget(name: "AppleCodersTests", dependencies: ["ImageFiles", "FileDigests"]),
    ],
    swiftLanguageModes: [.v6]
)
