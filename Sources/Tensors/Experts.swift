// The feed-forward networks of a layer of which each token goes through a few.

/// The experts of one layer.
package struct ExpertWeights {
    /// [experts] of [2 × ffn, hidden], gates first.
    package let gateUp: [PreparedWeight]
    /// [experts] of [hidden, ffn]
    package let down: [PreparedWeight]
    /// [experts, 2 × ffn] f32
    package let gateUpBias: Tensor?
    /// [experts, hidden] f32
    package let downBias: Tensor?

    package init(gateUp: [PreparedWeight], down: [PreparedWeight], gateUpBias: Tensor? = nil, downBias: Tensor? = nil) {
        self.gateUp = gateUp
        self.down = down
        self.gateUpBias = gateUpBias
        self.downBias = downBias
    }

    /// Bytes of all weights.
    package var byteCount: Int { (gateUp + down).reduce(0) { $0 + $1.byteCount } }
}

/// Which experts a token goes through, and with what weights: the softmax of its logits.
package struct ExpertRouting: Hashable, Sendable {
    /// Experts each token goes through: those of the highest logits.
    package var usedCount: Int
    /// Whether the weights of those are made to add up to 1.
    package var isNormalized: Bool

    package init(usedCount: Int, isNormalized: Bool) {
        self.usedCount = usedCount
        self.isNormalized = isNormalized
    }
}
