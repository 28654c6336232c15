// What a model asks of attention and of gates beside the usual: one value each, so that a new wish is a field.

/// How scores become weights.
package struct AttentionOptions {
    /// What the product of a query and a key is multiplied by.
    package var scale: Float
    /// Positions that a row looks back on, its own included; nil for all. Block table entries wholly behind the windows
    /// of a step's rows are never read.
    package var slidingWindow: Int?
    /// Scores s become cap · tanh(s / cap).
    package var logitSoftCap: Float?
    /// [heads] f32: scores that take their share of the weights and have no value.
    package var sinks: Tensor?

    package init(scale: Float, slidingWindow: Int? = nil, logitSoftCap: Float? = nil, sinks: Tensor? = nil) {
        self.scale = scale
        self.slidingWindow = slidingWindow
        self.logitSoftCap = logitSoftCap
        self.sinks = sinks
    }
}

/// How a gated feed-forward block activates its gate g, and what it makes of the other half u.
package enum GateActivation: Hashable, Sendable {
    /// g / (1 + e⁻ᵍ) · u
    case silu
    /// ½ g (1 + tanh(√(2/π) (g + 0.044715 g³))) · u
    case geluTanh
    /// h / (1 + e^(−1.702 h)) · (v + 1), with h = min(g, limit) and v = u clamped to ±limit.
    case clamped(limit: Float)
}

/// A function of every element of a tensor on its own.
package enum ElementFunction: Hashable, Sendable {
    /// x · factor
    case multiply(Float)
    /// cap · tanh(x / cap)
    case softCap(Float)
}

/// What not every backend has, and so asks for while loading.
package enum BackendFeature: String, Sendable, CaseIterable {
    case experts = "mixtures of experts"
    case adapters = "LoRA adapters"
}
