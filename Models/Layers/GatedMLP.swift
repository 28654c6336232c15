// The feed-forward block with a gate. arXiv 2002.05202.

import Checkpoints
import Tensors

/// normed → gate and up (one stacked matrix) → activation(gate, up) → down → output.
struct GatedMLP: FeedForward {
    /// [2 × ffn, hidden]
    private let gateUp: PreparedWeight
    /// [hidden, ffn]
    private let down: PreparedWeight
    private let activation: GateActivation

    var weightBytes: Int { gateUp.byteCount + down.byteCount }

    /// Phi stores gate and up as one matrix, under the name of the second.
    init(_ config: ModelConfig, _ weights: WeightReader, backend: any Backend) throws {
        let (ffn, hidden) = (config.ffnSize, config.hiddenSize)
        activation = config.activation
        if weights.contains("ffn_gate.weight") {
            gateUp = try backend.prepare([
                weights.tensor("ffn_gate.weight", shape: [ffn, hidden]),
                weights.tensor("ffn_up.weight", shape: [ffn, hidden]),
            ])
        } else {
            gateUp = try backend.prepare([weights.tensor("ffn_up.weight", shape: [2 * ffn, hidden])])
        }
        down = try backend.prepare([weights.tensor("ffn_down.weight", shape: [hidden, ffn])])
    }

    /// Reads `scratch.normed`.
    func callAsFunction(_ scratch: Activations, into output: Tensor, mode: LinearMode, backend: any Backend) {
        backend.linear(scratch.normed, gateUp, into: scratch.gateUp, mode: .overwrite)
        backend.gate(scratch.gateUp, activation, into: scratch.gated)
        backend.linear(scratch.gated, down, into: output, mode: mode)
    }
}
