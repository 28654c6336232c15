// swift-tools-version: 6.2
//
// The emulated device and its tests on their own, so that they can be built with AddressSanitizer in a minute: without
// the server, its packages and the model. `make test-slow` links the sources to where this expects them.

import PackageDescription

let swift: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let c: [CSetting] = [.unsafeFlags(["-O2", "-g", "-ffp-contract=off"])]
let emulated: [CXXSetting] = [.headerSearchPath("../../Kernels"), .unsafeFlags(["-O2", "-g", "-ffp-contract=off"])]

let package = Package(
    name: "sanitized",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "NCCLStub", type: .dynamic, targets: ["NCCLStub"]),
        .library(name: "NCCLStubOld", type: .dynamic, targets: ["NCCLStubOld"]),
    ],
    targets: [
        .target(name: "Tensors", swiftSettings: swift),
        .target(name: "CUDAKernels", path: "Kernels/cuda", cSettings: c),
        .target(name: "CUDADriver", cSettings: c, linkerSettings: [.linkedLibrary("dl", .when(platforms: [.linux]))]),
        .target(name: "CUDABackend", dependencies: ["Tensors", "CUDADriver", "CUDAKernels"], swiftSettings: swift),
        .target(name: "Conformance", dependencies: ["Tensors"], swiftSettings: swift),
        .target(
            name: "CUDAEmulator", dependencies: ["CUDADriver", "CUDAKernels"], path: "Tests/CUDAEmulator",
            cxxSettings: emulated),
        .target(
            name: "NCCLStub", dependencies: ["CUDADriver"], path: "Tests/NCCLStub",
            cxxSettings: [.unsafeFlags(["-g"])]),
        .target(name: "NCCLStubOld", path: "Tests/NCCLStubOld", cSettings: c),
        .testTarget(
            name: "CUDABackendTests",
            dependencies: [
                "CUDABackend", "CUDADriver", "CUDAEmulator", "CUDAKernels", "Conformance", "NCCLStub", "Tensors",
            ],
            exclude: ["ArchitectureTests.swift", "RealModelTests.swift", "ShardedModelTests.swift"],
            swiftSettings: swift),
    ],
    cxxLanguageStandard: .cxx17
)
