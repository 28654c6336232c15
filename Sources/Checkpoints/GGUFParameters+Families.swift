// What single families say in a GGUF file, and what llama.cpp knows of them without being told.

import Foundation
import Tensors

extension GGUFParameters {
    // MARK: Rotation

    func rope(headDim: Int, contextLength: Int) throws(CheckpointError) -> RopeConfig {
        let dimension = try optional("rope.dimension_count", in: 2...headDim) ?? headDim
        guard dimension % 2 == 0 else {
            throw contradiction("rope.dimension_count", "\(dimension)", expected: "an even number")
        }
        return RopeConfig(
            theta: try number("rope.freq_base", in: 1...1e12) ?? 10_000, dimension: dimension,
            layout: family.ropeLayout, scaling: try ropeScaling(contextLength: contextLength))
    }

    private func ropeScaling(contextLength: Int) throws(CheckpointError) -> RopeScaling {
        if family == .phi3, file.tensorInfo("rope_factors_long.weight") != nil {
            return try longRope(contextLength: contextLength)
        }
        let type = try file.string(key("rope.scaling.type"))
        if type != "yarn", let factor = try number("rope.scaling.attn_factor", in: 0...1e6), factor != 1, factor != 0 {
            throw unsupported("rope.scaling.attn_factor", "\(factor)", supported: "1")
        }
        switch type {
        case "linear":
            let factor = try scalingFactor()
            return factor == 1 ? .none : .linear(factor: factor)
        case "yarn":
            let factor = try scalingFactor()
            let original = try required("rope.scaling.original_context_length", in: 1...16_777_216)
            let attention = try number("rope.scaling.attn_factor", in: 0...1e6) ?? 1
            return .yarn(
                YarnScaling(
                    factor: factor, originalContext: original, isTruncated: family != .gptOSS,
                    magnitude: (attention == 0 ? 1 : attention) * (0.1 * log(factor) + 1)))
        case nil:
            // The key of older files.
            guard let factor = try number("rope.scale_linear", in: 1...1e6), factor != 1 else { return .none }
            return .linear(factor: factor)
        case "none": return .none
        case .some(let type):
            throw unsupported("rope.scaling.type", printable(type), supported: "none, linear, yarn")
        }
    }

    private func scalingFactor() throws(CheckpointError) -> Double {
        guard let factor = try number("rope.scaling.factor", in: 1...1e6) else { throw missing("rope.scaling.factor") }
        return factor
    }

    private func longRope(contextLength: Int) throws(CheckpointError) -> RopeScaling {
        let original = try required("rope.scaling.original_context_length", in: 1...16_777_216)
        let magnitude =
            try number("rope.scaling.attn_factor", in: 0...1e6)
            ?? longRopeMagnitude(factor: Double(contextLength) / Double(original), originalContext: original)
        return .longRope(LongRopeScaling(short: [], long: [], originalContext: original, magnitude: magnitude))
    }

    // MARK: Families

    /// Reads what the family has beside the common hyper-parameters.
    func readOwn(into config: inout ModelConfig) throws(CheckpointError) {
        let layers = 0..<config.layerCount
        if family.hasWindow { config.slidingWindow = try window() }
        switch family {
        case .llama, .phi3:
            if config.slidingWindow != nil { config.windowedLayers = Set(layers) }
        case .qwen2, .qwen3, .qwen3moe: break
        case .smollm3: config.unrotatedLayers = Set(layers.filter { $0 % 4 == 3 })
        case .gemma2:
            config.becomeGemma()
            config.attentionSoftCap = try softCap("attn_logit_softcapping") ?? 50
            config.logitSoftCap = try softCap("final_logit_softcapping") ?? 30
            config.windowedLayers = Set(layers.filter { $0 % 2 == 0 })
            // The largest model of the family divides by √(hidden size / heads).
            if config.layerCount == 46 { config.attentionScale = config.scaleByHiddenSize }
        case .gemma3:
            config.becomeGemma()
            let period = try optional("attention.sliding_window_pattern", in: 1...1024) ?? 6
            config.windowedLayers = Set(layers.filter { $0 % period != period - 1 })
            config.localRopeTheta = try number("rope.freq_base_swa", in: 1...1e12) ?? 10_000
            if config.layerCount == 62 { config.attentionScale = config.scaleByHiddenSize }
        case .gptOSS:
            config.activation = .clamped(limit: 7)
            config.windowedLayers = Set(layers.filter { $0 % 2 == 0 })
        }
        if config.slidingWindow == nil { config.windowedLayers = [] }
        if family.hasExperts { config.experts = try experts(ffnSize: config.ffnSize) }
    }

    private func softCap(_ name: String) throws(CheckpointError) -> Float? {
        try number(name, in: 1e-3...1e6).map { Float($0) }
    }

    private func experts(ffnSize: Int) throws(CheckpointError) -> ExpertConfig? {
        guard let count = try optional("expert_count", in: 0...4096), count > 0 else {
            if family != .llama { throw missing("expert_count") }
            return nil
        }
        let used = try required("expert_used_count", in: 1...count)
        let own = family != .llama ? try optional("expert_feed_forward_length", in: 1...1_048_576) : nil
        return ExpertConfig(
            count: count, routing: ExpertRouting(usedCount: used, isNormalized: true), ffnSize: own ?? ffnSize)
    }
}

extension ModelConfig {
    /// What all Gemma models have in common.
    mutating func becomeGemma() {
        activation = .geluTanh
        embeddingScale = Float(Double(hiddenSize).squareRoot())
    }

    /// 1 / √(hidden size / heads), as the largest Gemma models scale.
    fileprivate var scaleByHiddenSize: Float { Float((Double(headCount) / Double(hiddenSize)).squareRoot()) }
}

/// What LongRoPE multiplies rotated features by when a context is stretched by `factor`.
func longRopeMagnitude(factor: Double, originalContext: Int) -> Double {
    factor <= 1 || originalContext <= 1 ? 1 : (1 + log(factor) / log(Double(originalContext))).squareRoot()
}
