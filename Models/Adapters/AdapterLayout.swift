// Which matrices of a model adapters may change, and how many adapters of what size there is room for.

import Checkpoints
import Tensors

/// Room for adapters, decided at start-up.
package struct AdapterLimits: Sendable, Equatable {
    /// Adapters that are loaded, or still used, at one time.
    package let count: Int
    /// The largest rank of one.
    package let maxRank: Int

    package init(count: Int, maxRank: Int) {
        self.count = count
        self.maxRank = maxRank
    }

    /// The largest rank that the kernels take.
    package static let largestRank = 256

    /// Bytes that adapters of a model will take, before it is loaded.
    package func byteCount(of config: ModelConfig) -> Int {
        let (hidden, queries) = (config.hiddenSize, config.headCount * config.headDim)
        let keys = config.kvHeadCount * config.headDim
        let attention = 2 * (hidden + queries) + 2 * (hidden + keys)
        let mlp = config.experts == nil ? 3 * (hidden + config.ffnSize) : 0
        return config.layerCount * (attention + mlp) * count * maxRank * 4
    }
}

/// A matrix that adapters may change, or the part of it that each rank has.
package struct AdapterTarget: Sendable, Equatable {
    package let layer: Int
    /// The matrix's name within its layer, as Hugging Face has it: "self_attn.q_proj".
    package let module: String
    /// Inputs and outputs.
    package let columnCount: Int
    package let rowCount: Int
    /// Set where the model keeps the two halves of each head of so many outputs interleaved, and adapters do not.
    package let interleavedHeadDim: Int?

    package init(layer: Int, module: String, columnCount: Int, rowCount: Int, interleavedHeadDim: Int? = nil) {
        self.layer = layer
        self.module = module
        self.columnCount = columnCount
        self.rowCount = rowCount
        self.interleavedHeadDim = interleavedHeadDim
    }

    /// Where the model keeps an adapter's output `row`: element i of the halves 0 and 1 of a head lie side by side.
    func place(ofRow row: Int) -> Int {
        guard let size = interleavedHeadDim else { return row }
        let (head, element) = row.quotientAndRemainder(dividingBy: size)
        return head * size + 2 * (element % (size / 2)) + element / (size / 2)
    }
}

/// Everything that a loaded adapter must fit.
package struct AdapterLayout: Sendable {
    package let limits: AdapterLimits
    package let targets: [AdapterTarget]
    /// [ranks] What each has of the model, and so of an adapter; empty for a model in one part.
    let plans: [ShardPlan]

    package init(limits: AdapterLimits, targets: [AdapterTarget], plans: [ShardPlan] = []) {
        self.limits = limits
        self.targets = targets
        self.plans = plans
    }
}
