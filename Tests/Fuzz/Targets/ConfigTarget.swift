// Bytes as each of the JSON files that say what a folder of weights is: config.json with how it is quantized,
// generation_config.json and adapter_config.json. What follows divides by, allocates from and indexes with their numbers.

import Checkpoints
import JSON

enum ConfigTarget {
    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        let config = try value { () throws(CheckpointError) in try ModelConfig(json: bytes, file: "config.json") }
        if let config { try check(config) }
        let generation = try value { () throws(CheckpointError) in
            try GenerationConfig(json: bytes, file: "generation_config.json", vocabSize: 1000)
        }
        try BrokenPromise.check(
            generation?.endTokens.allSatisfy((0..<1000).contains) != false, "an end token of no row")
        let adapter = try value { () throws(CheckpointError) in
            try AdapterConfig(json: bytes, file: "adapter_config.json", maxRank: 64)
        }
        try BrokenPromise.check(adapter.map { (1...64).contains($0.rank) } != false, "an adapter of no rank")
        let tree: JSONValue
        do throws(JSONError) { tree = try JSONParser.parse(bytes) } catch {
            return try BrokenPromise.check(refusal: error.reason)
        }
        _ = try value { () throws(CheckpointError) in try QuantizationConfig(tree, file: "config.json") }
    }

    /// What `read` returns; nil where it refuses, in a sentence.
    private static func value<Value>(
        _ read: () throws(CheckpointError) -> Value
    ) throws(BrokenPromise) -> Value? {
        do throws(CheckpointError) { return try read() } catch {
            try BrokenPromise.check(refusal: error.description)
            return nil
        }
    }

    private static func check(_ config: ModelConfig) throws(BrokenPromise) {
        let sizes = [
            config.layerCount, config.hiddenSize, config.ffnSize, config.kvHeadCount, config.headDim, config.vocabSize,
            config.contextLength,
        ]
        try BrokenPromise.check(sizes.allSatisfy { (1...16_777_216).contains($0) }, "a size of \(sizes)")
        try BrokenPromise.check(config.headCount % config.kvHeadCount == 0, "heads that share no keys")
        try BrokenPromise.check(
            config.headDim % 2 == 0 && (0...config.headDim).contains(config.ropeDimension)
                && config.ropeDimension % 2 == 0, "half a rotation")
        try BrokenPromise.check(
            config.rmsEpsilon > 0 && config.rmsEpsilon.isFinite && config.ropeTheta > 0 && config.ropeTheta.isFinite,
            "an epsilon of \(config.rmsEpsilon) or a base of \(config.ropeTheta)")
        let layers = 0..<config.layerCount
        try BrokenPromise.check(
            config.windowedLayers.isSubset(of: layers) && config.unrotatedLayers.isSubset(of: layers)
                && (config.windowedLayers.isEmpty || (config.slidingWindow ?? 0) > 0), "a layer that is none")
        if let experts = config.experts {
            try BrokenPromise.check(experts.count > 0 && experts.ffnSize > 0, "experts of no size")
        }
    }
}
