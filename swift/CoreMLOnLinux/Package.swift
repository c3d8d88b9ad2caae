// swift-tools-version: 6.0

// Type-checks and tests the sources of CoreMLDiffusion where there is no Core ML, against a
// stand-in module that declares what they use of it and records the calls.

import PackageDescription

let package = Package(
    name: "CoreMLOnLinux",
    dependencies: [.package(name: "coreml-sd", path: "../..")],
    targets: [
        .target(name: "CoreML"),
        .target(
            name: "CoreMLDiffusionOnLinux",
            dependencies: ["CoreML", .product(name: "DiffusionCore", package: "coreml-sd")],
            path: "Sources/CoreMLDiffusion"
        ),
        .testTarget(
            name: "CoreMLDiffusionTests", dependencies: ["CoreMLDiffusionOnLinux"]),
    ],
    swiftLanguageModes: [.v6]
)
