// What every architecture promises: one forward pass over any mix of sequences.

import Checkpoints
import Tensors

/// The inputs of one forward pass.
package struct ForwardStep {
    /// [tokens] i32: the tokens of this step, sequence after sequence.
    package let tokens: Tensor
    /// Where the rows belong and where their keys and values lie.
    package let batch: AttentionBatch
    /// [windowed groups] The same for layers whose blocks are in tables of their own.
    package let windowed: [AttentionBatch]
    /// [sampled rows] i32: the rows whose next token is wanted; only these reach the output head.
    package let sampledRows: Tensor
    /// [tokens] i32: the place of each row's adapter, or −1; nil where no row has one.
    package let adapters: Tensor?
    /// Whether each sampled row's likeliest token is chosen and its logits are not looked at.
    package var samplesGreedily = false

    package init(
        tokens: Tensor, batch: AttentionBatch, windowed: [AttentionBatch] = [], sampledRows: Tensor,
        adapters: Tensor? = nil
    ) {
        self.tokens = tokens
        self.batch = batch
        self.windowed = windowed
        self.sampledRows = sampledRows
        self.adapters = adapters
    }

    /// What the layers of one group are told.
    func batch(ofGroup group: Int) -> AttentionBatch { group == 0 ? batch : windowed[group - 1] }
}

/// The largest step a model must be able to run; its activations are sized by it.
package struct StepCapacity: Sendable {
    /// Tokens in one step.
    package let tokens: Int
    /// Rows that are sampled in one step.
    package let sampledRows: Int
    /// Tokens of the longest sequence; nil for as many as the model was trained for.
    package let sequenceLength: Int?
    /// Adapters to make room for; nil for none.
    package let adapters: AdapterLimits?

    package init(tokens: Int, sampledRows: Int, sequenceLength: Int? = nil, adapters: AdapterLimits? = nil) {
        self.tokens = tokens
        self.sampledRows = sampledRows
        self.sequenceLength = sequenceLength
        self.adapters = adapters
    }
}

/// What the engine must know of a model to size its cache and check its requests.
package struct ModelDimensions: Sendable, Equatable {
    /// The architecture's name in the checkpoint.
    package let architecture: String
    package let layerCount: Int
    /// Key and value heads per layer.
    package let kvHeadCount: Int
    /// Features per head.
    package let headDim: Int
    /// Token ids are below this.
    package let vocabularyCount: Int
    /// Tokens the model was trained to attend over.
    package let contextLength: Int
    /// Positions that windowed layers look back on; nil where there are none.
    package let slidingWindow: Int?
    /// The layers with a window.
    package let windowedLayers: Set<Int>
    /// Multiplications one token costs in a layer's matrices, and in its attention for each position it looks back on.
    package let matrixMultiplications: Int
    package let attentionMultiplications: Int

    package init(
        architecture: String, layerCount: Int, kvHeadCount: Int, headDim: Int, vocabularyCount: Int,
        contextLength: Int, slidingWindow: Int? = nil, windowedLayers: Set<Int> = [], matrixMultiplications: Int,
        attentionMultiplications: Int
    ) {
        self.architecture = architecture
        self.layerCount = layerCount
        self.kvHeadCount = kvHeadCount
        self.headDim = headDim
        self.vocabularyCount = vocabularyCount
        self.contextLength = contextLength
        self.slidingWindow = slidingWindow
        self.windowedLayers = windowedLayers
        self.matrixMultiplications = matrixMultiplications
        self.attentionMultiplications = attentionMultiplications
    }

    /// The dimensions a checkpoint states.
    package init(_ config: ModelConfig) {
        let queries = config.headCount * config.headDim
        let keysAndValues = 2 * config.kvHeadCount * config.headDim
        // A token goes through few of a layer's experts.
        let ffn = config.experts.map { $0.routing.usedCount * $0.ffnSize } ?? config.ffnSize
        self.init(
            architecture: config.architecture, layerCount: config.layerCount, kvHeadCount: config.kvHeadCount,
            headDim: config.headDim, vocabularyCount: config.vocabSize, contextLength: config.contextLength,
            slidingWindow: config.slidingWindow, windowedLayers: config.windowedLayers,
            matrixMultiplications: config.hiddenSize * (2 * queries + keysAndValues + 3 * ffn),
            attentionMultiplications: 2 * queries)
    }
}

/// A decoder-only language model. Lives on the engine thread.
package protocol LanguageModel: AnyObject {
    var dimensions: ModelDimensions { get }
    /// [sampledRows, vocab] f32: the logits of the last pass, in its first rows.
    var logits: Tensor { get }
    /// [tokens, hidden] f32: what the layers made of every row of the last pass, not normalized.
    var hidden: Tensor { get }
    /// [sampledRows, hidden] f32: the same of the sampled rows.
    var sampledHidden: Tensor { get }
    /// The norm between the layers and the output head.
    var outputNorm: OutputNorm { get }
    /// Bytes of all prepared weights.
    var weightBytes: Int { get }
    /// Bytes of activations and logits.
    var activationBytes: Int { get }
    /// The adapters that rows may go through; nil where there is no room for any.
    var adapters: AdapterBank? { get }

    /// Computes the logits of `step.sampledRows`, writing the keys and values of all rows to `cache`.
    /// - Parameter cache: [layers]
    func forward(_ step: ForwardStep, cache: [KVLayer], backend: any Backend)
}
