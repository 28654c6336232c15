// What single families say in config.json: rotation, windows, experts, caps; and what they mean by saying nothing.

import Foundation
import JSON
import Tensors

extension HuggingFaceFields {
    // MARK: Rotation

    /// Since transformers 5 one object holds everything; before it there were `rope_theta` and `rope_scaling`.
    func rope(
        _ family: HuggingFaceFamily, headDim: Int, contextLength: Int
    ) throws(CheckpointError) -> RopeConfig {
        var parameters = try object("rope_parameters")
        if let nested = try parameters?.object("full_attention") { parameters = nested }
        let older = try object("rope_scaling")
        let scaling = parameters ?? older
        let outerTheta = try number("rope_theta", in: 1...1e12)
        let outerShare = try number("partial_rotary_factor", in: 0.01...1)
        let theta = try parameters?.number("rope_theta", in: 1...1e12) ?? outerTheta ?? 10_000
        let share = try parameters?.number("partial_rotary_factor", in: 0.01...1) ?? outerShare ?? 1
        let dimension = Int(Double(headDim) * share)
        guard dimension >= 2, dimension % 2 == 0 else {
            throw wrong("partial_rotary_factor", "a share that leaves an even number of \(headDim) features")
        }
        return RopeConfig(
            theta: theta, dimension: dimension, layout: .halves,
            scaling: try scaling.map { (fields) throws(CheckpointError) in
                try fields.ropeScaling(parent: self, dimension: dimension, contextLength: contextLength)
            } ?? .none)
    }

    private func ropeScaling(
        parent: HuggingFaceFields, dimension: Int, contextLength: Int
    ) throws(CheckpointError) -> RopeScaling {
        let type =
            try first(["rope_type", "type"]) { name throws(CheckpointError) in try string(name) } ?? "default"
        let shared: Set<String> = ["rope_type", "type", "rope_theta", "partial_rotary_factor"]
        func requireOnly(_ own: Set<String>) throws(CheckpointError) {
            for name in names where has(name) && !shared.contains(name) && !own.contains(name) {
                throw wrong(name, "a field that is known for \(type) scaling")
            }
        }
        switch type {
        case "default":
            try requireOnly([])
            return .none
        case "linear":
            try requireOnly(["factor"])
            return .linear(factor: try factor())
        case "llama3":
            try requireOnly(["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
            guard let low = try number("low_freq_factor", in: 1e-3...1e6),
                let high = try number("high_freq_factor", in: 1e-3...1e6), high > low
            else { throw wrong("high_freq_factor", "a number above low_freq_factor") }
            return .llama3(
                factor: try factor(), low: low, high: high,
                originalContext: try required("original_max_position_embeddings", in: 1...16_777_216))
        case "yarn":
            try requireOnly([
                "factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "truncate", "attention_factor",
            ])
            let factor = try factor()
            return .yarn(
                YarnScaling(
                    factor: factor,
                    originalContext: try integer("original_max_position_embeddings", in: 1...16_777_216)
                        ?? contextLength,
                    betaFast: try number("beta_fast", in: 1e-3...1e6) ?? 32,
                    betaSlow: try number("beta_slow", in: 1e-3...1e6) ?? 1,
                    isTruncated: try boolean("truncate") ?? true,
                    magnitude: try number("attention_factor", in: 1e-3...1e6) ?? (0.1 * log(factor) + 1)))
        case "longrope", "su":
            try requireOnly([
                "short_factor", "long_factor", "original_max_position_embeddings", "factor", "attention_factor",
            ])
            return try longRope(parent: parent, count: dimension / 2, contextLength: contextLength)
        default: throw wrong("rope_type", "default, linear, llama3, yarn or longrope")
        }
    }

    private func factor() throws(CheckpointError) -> Double {
        guard let factor = try number("factor", in: 1...1e6) else { throw wrong("factor", "a number from 1 to 1e6") }
        return factor
    }

    private func longRope(
        parent: HuggingFaceFields, count: Int, contextLength: Int
    ) throws(CheckpointError) -> RopeScaling {
        func factors(_ name: String) throws(CheckpointError) -> [Double] {
            let positive: (JSONValue) -> Double? = { value in
                switch value {
                case .integer(let number) where number > 0: Double(number)
                case .number(let number) where number > 1e-6: number
                default: nil
                }
            }
            guard let list = try list(name, count: count, of: "positive numbers", positive) else {
                throw wrong(name, "a list of \(count) positive numbers")
            }
            return list
        }
        let field = "original_max_position_embeddings"
        let stated = try integer(field, in: 1...16_777_216)
        let original = if let stated { stated } else { try parent.required(field, in: 1...16_777_216) }
        let stretch = try number("factor", in: 1...1e6) ?? Double(contextLength) / Double(original)
        return .longRope(
            LongRopeScaling(
                short: try factors("short_factor"), long: try factors("long_factor"), originalContext: original,
                magnitude: try number("attention_factor", in: 1e-3...1e6)
                    ?? longRopeMagnitude(factor: stretch, originalContext: original)))
    }

    // MARK: Families

    /// Reads what the family has beside the common hyper-parameters.
    func readOwn(_ family: HuggingFaceFamily, into config: inout ModelConfig) throws(CheckpointError) {
        try readActivation(family, into: &config)
        try readWindows(family, into: &config)
        if family.hasExperts { config.experts = try experts(family, layerCount: config.layerCount) }
        let layers = 0..<config.layerCount
        switch family {
        case .gemma2, .gemma3:
            config.becomeGemma()
            config.normOffset = 1
            config.attentionScale = try number("query_pre_attn_scalar", in: 1e-3...1e6).map { Float(pow($0, -0.5)) }
            config.attentionSoftCap = try softCap("attn_logit_softcapping")
            config.logitSoftCap = try softCap("final_logit_softcapping")
            if try boolean("use_bidirectional_attention") == true {
                throw wrong("use_bidirectional_attention", "false")
            }
            if family == .gemma3 { config.localRopeTheta = try localTheta() }
        case .smollm3:
            let interval = try integer("no_rope_layer_interval", in: 1...1024) ?? 4
            let rotates = try list("no_rope_layers", count: config.layerCount, of: "zeros and ones") { value in
                value == .integer(0) ? false : value == .integer(1) ? true : nil
            }
            config.unrotatedLayers = Set(layers.filter { !(rotates?[$0] ?? ($0 % interval != interval - 1)) })
        case .gptOSS:
            if let alpha = try number("swiglu_alpha", in: 0...1e6), alpha != 1.702 {
                throw wrong("swiglu_alpha", "1.702")
            }
            config.activation = .clamped(limit: Float(try number("swiglu_limit", in: 1e-3...1e6) ?? 7))
        case .llama, .mistral, .mixtral, .qwen2, .qwen3, .qwen3MoE, .phi3: break
        }
    }

    private func softCap(_ name: String) throws(CheckpointError) -> Float? {
        try number(name, in: 1e-3...1e6).map { Float($0) }
    }

    private func readActivation(_ family: HuggingFaceFamily, into config: inout ModelConfig) throws(CheckpointError) {
        let field = family.isGemma && has("hidden_activation") ? "hidden_activation" : "hidden_act"
        guard let name = try string(field) else { return }
        // Gemma's first files say "gelu" and mean its approximation.
        let known = family.isGemma ? ["gelu_pytorch_tanh", "gelu"] : ["silu", "swish"]
        guard known.contains(name) else { throw wrong(field, known[0]) }
    }

    private func localTheta() throws(CheckpointError) -> Double {
        let parameters = try object("rope_parameters")
        let nested = try parameters?.object("sliding_attention")
        if let type = try nested?.string("rope_type"), type != "default" {
            throw wrong("rope_parameters", "default rotation in windowed layers")
        }
        let older = try number("rope_local_base_freq", in: 1...1e12)
        return try nested?.number("rope_theta", in: 1...1e12) ?? older ?? 10_000
    }

    private func readWindows(_ family: HuggingFaceFamily, into config: inout ModelConfig) throws(CheckpointError) {
        let layers = 0..<config.layerCount
        let types = try list("layer_types", count: config.layerCount, of: "sliding_attention or full_attention") {
            value in value == .string("sliding_attention") ? true : value == .string("full_attention") ? false : nil
        }
        let isOn = try boolean("use_sliding_window") ?? ![.qwen2, .qwen3, .qwen3MoE, .smollm3].contains(family)
        guard isOn, let window = try integer("sliding_window", in: 1...Int(Int32.max)) else { return }
        let windowed: Set<Int>
        if let types {
            windowed = Set(layers.filter { types[$0] })
        } else {
            switch family {
            case .gemma2, .gptOSS: windowed = Set(layers.filter { $0 % 2 == 0 })
            case .gemma3:
                let period =
                    try first(["sliding_window_pattern", "_sliding_window_pattern"]) { name throws(CheckpointError) in
                        try integer(name, in: 1...1024)
                    } ?? 6
                windowed = Set(layers.filter { $0 % period != period - 1 })
            case .qwen2, .qwen3, .qwen3MoE, .smollm3:
                let first = try integer("max_window_layers", in: 0...1024) ?? 0
                windowed = Set(layers.filter { $0 >= first })
            case .mistral, .mixtral, .phi3: windowed = Set(layers)
            case .llama: throw wrong("sliding_window", "no window")
            }
        }
        config.slidingWindow = windowed.isEmpty ? nil : window
        config.windowedLayers = windowed
    }

    private func experts(_ family: HuggingFaceFamily, layerCount: Int) throws(CheckpointError) -> ExpertConfig {
        let field = has("num_experts") ? "num_experts" : "num_local_experts"
        let count = try required(field, in: 1...4096)
        if let step = try integer("decoder_sparse_step", in: 1...1024), step != 1 {
            throw wrong("decoder_sparse_step", "1")
        }
        if let dense = try list("mlp_only_layers", of: "layers", { $0 }), !dense.isEmpty {
            throw wrong("mlp_only_layers", "no layers")
        }
        let isNormalized = try boolean("norm_topk_prob") ?? (family != .qwen3MoE)
        return ExpertConfig(
            count: count,
            routing: ExpertRouting(
                usedCount: try required("num_experts_per_tok", in: 1...count), isNormalized: isNormalized),
            ffnSize: try required(
                family == .qwen3MoE ? "moe_intermediate_size" : "intermediate_size", in: 1...1_048_576))
    }
}
