// Which file implements which architecture: one line each.

import Checkpoints
import Tensors

/// Builds the model a checkpoint asks for.
package enum Registry {
    private typealias Load = (ModelConfig, WeightReader, StepCapacity, any Backend, (Double) -> Void) throws ->
        any LanguageModel

    /// By name, as GGUF's `general.architecture` spells it.
    private static var architectures: [String: Load] {
        [
            "gemma2": { try Gemma2($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "gemma3": { try Gemma3($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "gpt-oss": { try GPTOSS($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "llama": { try Llama($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "phi3": { try Phi3($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "qwen2": { try Qwen2($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "qwen3": { try Qwen3($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "qwen3moe": { try Qwen3($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
            "smollm3": { try SmolLM3($0, weights: $1, capacity: $2, backend: $3, progress: $4) },
        ]
    }

    /// Names of everything that can be loaded, sorted.
    package static var architectureNames: [String] { architectures.keys.sorted() }

    /// Loads all weights of `config`'s architecture, or, on a backend with other ranks beside it, its part of them.
    /// - Parameter progress: called after each layer with the fraction loaded, 0…1.
    /// - Throws: `ModelError` for an unknown architecture, `CheckpointError` for a missing, misshapen or unread tensor
    ///   or one that the ranks cannot share, `BackendError`.
    package static func load(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void = { _ in }
    ) throws -> any LanguageModel {
        guard let load = architectures[config.architecture] else {
            throw ModelError.unknownArchitecture(config.architecture, known: architectureNames)
        }
        var (config, weights) = (config, weights)
        if let shard = backend.collectives?.shard, !shard.isWhole {
            let plan = try ShardPlan(config, shard, file: weights.path)
            (config, weights) = (plan.config, weights.sharded(plan))
        }
        let model = try load(config, weights, capacity, backend, progress)
        try weights.requireAllRead()
        return model
    }
}

/// Why a model cannot be built.
package enum ModelError: Error, Equatable, CustomStringConvertible {
    /// No file in `Models/` implements this architecture.
    case unknownArchitecture(String, known: [String])

    package var description: String {
        switch self {
        case .unknownArchitecture(let name, let known):
            "The checkpoint's architecture is '\(name)', which is not supported. "
                + "Supported: \(known.joined(separator: ", "))."
        }
    }
}
