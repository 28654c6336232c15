// The feed-forward block with a gate. arXiv 2002.05202.

import Checkpoints
import Tensors

/// normed → gate and up (one stacked matrix) → activation(gate, up) → down → output.
struct GatedMLP: FeedForward {
    /// [2 × ffn, hidden]
    private let gateUp: AdaptedLinear
    /// [hidden, ffn]
    private let down: AdaptedLinear
    private let activation: GateActivation

    var weightBytes: Int { gateUp.byteCount + down.byteCount }

    /// Phi stores gate and up as one matrix, under the name of the second.
    init(_ context: LayerContext, _ weights: WeightReader, _ index: Int) throws {
        let (config, backend) = (context.config, context.backend)
        let (ffn, hidden) = (config.ffnSize, config.hiddenSize)
        activation = config.activation
        let stored: [StoredTensor]
        let parts: [AdaptedPart]
        if weights.contains("ffn_gate.weight") {
            stored = [
                try weights.tensor("ffn_gate.weight", shape: [ffn, hidden]),
                try weights.tensor("ffn_up.weight", shape: [ffn, hidden]),
            ]
            parts = ["mlp.gate_proj", "mlp.up_proj"].map { AdaptedPart(module: $0, rowCount: ffn) }
        } else {
            stored = [try weights.tensor("ffn_up.weight", shape: [2 * ffn, hidden])]
            parts = [AdaptedPart(module: "mlp.gate_up_proj", rowCount: 2 * ffn)]
        }
        gateUp = try AdaptedLinear(
            backend.prepare(stored, pairs: .halves(of: 2 * ffn)), parts, layer: index, context.adapters)
        down = try AdaptedLinear(
            backend.prepare([weights.tensor("ffn_down.weight", shape: [hidden, ffn])]),
            [AdaptedPart(module: "mlp.down_proj", rowCount: hidden)], layer: index, context.adapters,
            isCutByInputs: true)
    }

    /// Reads `scratch.normed`.
    func callAsFunction(_ scratch: Activations, into output: Tensor, mode: LinearMode, backend: any Backend) {
        gateUp.gate(
            scratch.normed, activation, scratch: scratch.gateUp, into: scratch.gated, choices: scratch.adapters,
            backend: backend)
        down(scratch.gated, into: output, mode: mode, choices: scratch.adapters, backend: backend)
    }
}
