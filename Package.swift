// swift-tools-version: 6.2
//
// One line per target, in layer order: a target may depend on lower layers only. `make build` passes
// `--explicit-target-dependency-import-check error`, so an undeclared import does not compile.

import PackageDescription

let swift: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .strictMemorySafety(),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
// The kernels decide where a multiplication and an addition round once; the compiler must not. A register that would
// hold the frame is worth 2 % of a step to them; the package manager asks for frames, and this has the last word.
let c: [CSetting] = [
    .unsafeFlags(["-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Xclang", "-mframe-pointer=none"])
]

// The kernels as C++, with their arithmetic as written; C++17 as nvcc compiles them.
let emulated: [CXXSetting] = [
    .headerSearchPath("../../Kernels"), .unsafeFlags(["-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]),
]

let hummingbird = "hummingbird"
let lifecycle = "swift-service-lifecycle"
func product(_ name: String, _ package: String) -> Target.Dependency { .product(name: name, package: package) }

let package = Package(
    name: "apus",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "apus", targets: ["apus"]),
        // Opened by the tests as NVIDIA's would be.
        .library(name: "NCCLStub", type: .dynamic, targets: ["NCCLStub"]),
        .library(name: "NCCLStubOld", type: .dynamic, targets: ["NCCLStubOld"]),
    ],
    dependencies: [
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", exact: "2.28.1", traits: []),
        .package(url: "https://github.com/apple/swift-nio.git", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras.git", exact: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", exact: "2.37.6"),
        .package(url: "https://github.com/apple/swift-http-types.git", exact: "1.8.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log.git", exact: "1.16.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", exact: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams.git", exact: "6.2.2"),
    ],
    targets: [
        // Layer 0
        .target(name: "JSON", swiftSettings: swift),
        .target(name: "Tensors", swiftSettings: swift),
        .target(name: "Scheduling", swiftSettings: swift),
        .target(name: "CPUKernels", path: "Kernels", sources: ["cpu"], cSettings: c),
        // The host's side of Kernels/*.cu; the kernels themselves are compiled by `make kernels`.
        .target(name: "CUDAKernels", path: "Kernels/cuda", cSettings: c),
        .target(name: "CUDADriver", cSettings: c, linkerSettings: [.linkedLibrary("dl", .when(platforms: [.linux]))]),
        // Layer 1
        .target(name: "Tokenization", dependencies: ["JSON"], swiftSettings: swift),
        .target(name: "Grammars", dependencies: ["JSON"], swiftSettings: swift),
        .target(name: "Checkpoints", dependencies: ["JSON", "Tensors"], swiftSettings: swift),
        .target(name: "CPUBackend", dependencies: ["Tensors", "CPUKernels"], swiftSettings: swift),
        .target(name: "CUDABackend", dependencies: ["Tensors", "CUDADriver", "CUDAKernels"], swiftSettings: swift),
        .target(name: "Conformance", dependencies: ["Tensors"], swiftSettings: swift),
        // Layer 2
        .target(
            name: "Models", dependencies: ["Checkpoints", "Tensors"], path: "Models",
            resources: [.embedInCode("Catalog")], swiftSettings: swift),
        // Layer 3
        .target(name: "Execution", dependencies: ["Scheduling", "Models", "Tensors"], swiftSettings: swift),
        // Layer 4
        .target(
            name: "Serving",
            dependencies: [
                "Execution", "Grammars", "JSON", "Scheduling", "Tokenization", product("Hummingbird", hummingbird),
                product("HummingbirdCore", hummingbird), product("HTTPTypes", "swift-http-types"),
                product("Logging", "swift-log"), product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio"),
                product("NIOHTTP1", "swift-nio"), product("NIOHTTPTypes", "swift-nio-extras"),
                product("NIOHTTPTypesHTTP1", "swift-nio-extras"), product("NIOSSL", "swift-nio-ssl"),
                product("NIOTLS", "swift-nio"), product("ServiceLifecycle", lifecycle),
            ], swiftSettings: swift),
        // Layer 5
        .executableTarget(
            name: "apus",
            dependencies: [
                "Serving", "Execution", "Models", "Checkpoints", "CPUBackend", "CUDABackend", "Conformance",
                "JSON", "Scheduling", "Tokenization", "Tensors", product("ArgumentParser", "swift-argument-parser"),
                product("Logging", "swift-log"), product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio"),
                product("NIOHTTP1", "swift-nio"), product("NIOSSL", "swift-nio-ssl"),
                product("ServiceLifecycle", lifecycle), product("UnixSignals", lifecycle), product("Yams", "Yams"),
            ], swiftSettings: swift),

        // Tests
        .target(
            name: "TestSupport",
            dependencies: ["Execution", "Models", "Checkpoints", "CPUBackend", "Scheduling", "Tensors"],
            path: "Tests/TestSupport", swiftSettings: swift),
        // The fuzzer's targets, which `make fuzz` compiles in a package of its own.
        .target(
            name: "FuzzTargets",
            dependencies: ["Checkpoints", "Grammars", "JSON", "Scheduling", "Serving", "Tensors", "Tokenization"],
            path: "Tests/Fuzz/Targets", swiftSettings: swift),
        .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets"], swiftSettings: swift),
        .testTarget(name: "SchedulingTests", dependencies: ["Scheduling"], swiftSettings: swift),
        .testTarget(name: "SimulationTests", dependencies: ["Scheduling"], swiftSettings: swift),
        .testTarget(name: "GrammarsTests", dependencies: ["Grammars", "JSON"], swiftSettings: swift),
        .testTarget(name: "TokenizationTests", dependencies: ["JSON", "Tokenization"], swiftSettings: swift),
        .testTarget(name: "CheckpointsTests", dependencies: ["Checkpoints", "JSON", "Tensors"], swiftSettings: swift),
        .testTarget(
            name: "BackendTests", dependencies: ["CPUBackend", "CPUKernels", "Conformance", "Tensors"],
            swiftSettings: swift),
        .target(
            name: "CUDAEmulator", dependencies: ["CUDADriver", "CUDAKernels"], path: "Tests/CUDAEmulator",
            cxxSettings: emulated),
        .target(
            name: "NCCLStub", dependencies: ["CUDADriver"], path: "Tests/NCCLStub",
            cxxSettings: [.unsafeFlags(["-O2", "-Wall", "-Wextra", "-Werror"])]),
        .target(name: "NCCLStubOld", path: "Tests/NCCLStubOld", cSettings: c),
        .testTarget(
            name: "CUDABackendTests",
            dependencies: [
                "CUDABackend", "CUDADriver", "CUDAEmulator", "CUDAKernels", "Checkpoints", "Conformance", "Execution",
                "Models", "NCCLStub", "Scheduling", "Tensors", "TestSupport",
            ], swiftSettings: swift),
        .target(name: "AllocationCounter", path: "Tests/AllocationCounter", cSettings: c),
        .testTarget(
            name: "ExecutionTests",
            dependencies: [
                "AllocationCounter", "TestSupport", "Execution", "Models", "Checkpoints", "CPUBackend", "Scheduling",
                "Tensors",
            ], swiftSettings: swift),
        .testTarget(
            name: "ServingTests",
            dependencies: [
                "Serving", "Execution", "Grammars", "JSON", "Scheduling", "Tokenization",
                product("Logging", "swift-log"), product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio"),
                product("ServiceLifecycle", lifecycle),
            ], swiftSettings: swift),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "apus", "Execution", "JSON", "Serving", "Scheduling", "Checkpoints", "CPUBackend", "Models", "Tensors",
                product("ArgumentParser", "swift-argument-parser"), product("Logging", "swift-log"),
                product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio"),
            ], exclude: ["Goldens"], swiftSettings: swift),
    ],
    cxxLanguageStandard: .cxx17
)
