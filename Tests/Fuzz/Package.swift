// swift-tools-version: 6.2
//
// The fuzzer, a package of its own: what it links must be compiled for coverage, and it needs none of the packages
// that the server does. `make fuzz` links the sources to where this expects them.

import PackageDescription

let swift: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let covered = swift + [.unsafeFlags(["-sanitize=fuzzer"])]

// Without a record of every comparison, which would take half the time where automata are built.
let edgesCovered = covered + [.unsafeFlags(["-sanitize-coverage=edge,inline-8bit-counters,pc-table"])]
let served = [
    "Access/APIKeys.swift", "Access/AllowedHosts.swift", "Access/CrossOrigin.swift", "Access/SHA256.swift",
    "Adapters/AdapterRefusal.swift", "Adapters/AdapterRules.swift", "AnswerSplitter.swift", "Choice.swift",
    "JSON/JSONFields.swift",
    "Messages/MessageBlocks.swift",
    "Messages/MessagesRequest.swift", "OpenAI/AnswerFields.swift",
    "OpenAI/ChatMessages.swift", "OpenAI/ChatRequest.swift", "OpenAI/CompletionRequest.swift",
    "OpenAI/OutputShape.swift",
    "OpenAI/RequestCheck.swift", "OpenAI/RequestField.swift", "OpenAI/RequestFieldTable.swift",
    "OpenAI/SamplingFields.swift", "OpenAI/ToolFields.swift", "OpenAI/UnsupportedFields.swift",
    "Pooling/PoolingRequests.swift", "PromptEncoder.swift",
    "Reasoning", "ServingConfiguration.swift", "ServingError.swift", "StopStrings.swift", "Structured", "Tools",
    "WallClock.swift",
]

let package = Package(
    name: "fuzz",
    platforms: [.macOS(.v15)],
    targets: [
        .target(name: "JSON", swiftSettings: covered),
        .target(name: "Grammars", dependencies: ["JSON"], swiftSettings: edgesCovered),
        .target(name: "Tensors", swiftSettings: swift),
        .target(name: "Scheduling", swiftSettings: swift),
        .target(name: "Tokenization", dependencies: ["JSON"], swiftSettings: covered),
        .target(name: "Checkpoints", dependencies: ["JSON", "Tensors"], swiftSettings: covered),
        .target(
            name: "Models", dependencies: ["Checkpoints", "Tensors"], path: "Models",
            resources: [.embedInCode("Catalog")], swiftSettings: swift),
        .target(
            name: "Execution", dependencies: ["Models", "Scheduling", "Tensors"],
            sources: [
                "CacheLayout.swift", "EngineConfiguration.swift", "EngineError.swift", "EngineEvent.swift",
                "EngineStatistics.swift", "MemoryPlan.swift",
            ], swiftSettings: swift),
        // What a request passes before it meets a connection or an engine; `Tests/Fuzz/Serving/Sources` is a link.
        .target(
            name: "Serving", dependencies: ["Execution", "Grammars", "JSON", "Scheduling", "Tokenization"],
            path: "Tests/Fuzz/Serving", sources: ["StandIns.swift"] + served.map { "Sources/" + $0 },
            swiftSettings: covered),
        .target(
            name: "FuzzTargets",
            dependencies: ["Checkpoints", "Grammars", "JSON", "Scheduling", "Serving", "Tensors", "Tokenization"],
            path: "Tests/Fuzz/Targets", swiftSettings: covered),
        .target(name: "LibFuzzer", path: "Tests/Fuzz/LibFuzzer"),
        .executableTarget(
            name: "fuzz", dependencies: ["FuzzTargets", "LibFuzzer"], path: "Tests/Fuzz/Driver", swiftSettings: swift,
            // gold fails on the second `main` that libFuzzer brings; lld takes the first.
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"], .when(platforms: [.linux]))]),
    ]
)
