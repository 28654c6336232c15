// The feed-forward block with a SiLU gate. arXiv 2002.05202.

import Checkpoints
import Tensors

/// normed → gate and up (one stacked matrix) → silu(gate) · up → down → added to hidden.
struct GatedMLP {
    /// [2 × ffn, hidden]
    private let gateUp: PreparedWeight
    /// [hidden, ffn]
    private let down: PreparedWeight

    var weightBytes: Int { gateUp.byteCount + down.byteCount }

    init(_ config: ModelConfig, _ weights: WeightReader, backend: any Backend) throws {
        gateUp = try backend.prepare([
            weights.tensor("ffn_gate.weight", shape: [config.ffnSize, config.hiddenSize]),
            weights.tensor("ffn_up.weight", shape: [config.ffnSize, config.hiddenSize]),
        ])
        down = try backend.prepare([
            weights.tensor("ffn_down.weight", shape: [config.hiddenSize, config.ffnSize])
        ])
    }

    /// Reads `scratch.normed`, adds to `scratch.hidden`.
    func callAsFunction(_ scratch: Activations, backend: any Backend) {
        backend.linear(scratch.normed, gateUp, into: scratch.gateUp, mode: .overwrite)
        backend.gate(scratch.gateUp, into: scratch.gated)
        backend.linear(scratch.gated, down, into: scratch.hidden, mode: .accumulate)
    }
}
