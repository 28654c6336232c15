// The hyper-parameters of a transformer, read from a checkpoint and checked once.
//
// Everything after this point may divide by, allocate from and index with these numbers, so a value that is absent,
// out of range or in contradiction with another is refused by name where it is read: ModelConfig+GGUF.swift,
// HuggingFaceConfig.swift. A hyper-parameter these do not know is refused as well: ignoring it would load a different
// model.

import Tensors

/// Which networks of a mixture of experts a token goes through, and their size.
package struct ExpertConfig: Sendable, Equatable {
    /// Networks of a layer.
    package var count: Int
    /// How a token's are chosen.
    package var routing: ExpertRouting
    /// Features of a network's inner layer.
    package var ffnSize: Int
}

/// What defines a decoder-only transformer.
package struct ModelConfig: Sendable, Equatable {
    /// The architecture's name in the checkpoint, such as "llama".
    package let architecture: String
    /// The name its publisher gave the model, if any.
    package let name: String?
    /// Transformer blocks.
    package let layerCount: Int
    /// Features of the residual stream.
    package let hiddenSize: Int
    /// Features of the feed-forward network's inner layer.
    package internal(set) var ffnSize: Int
    /// Query heads per layer.
    package internal(set) var headCount: Int
    /// Key and value heads per layer; divides `headCount`.
    package internal(set) var kvHeadCount: Int
    /// Features per head; even.
    package let headDim: Int
    /// Rows of the embedding table. Token ids are below this; the tokenizer may know fewer.
    package let vocabSize: Int
    /// Tokens the model was trained to attend over.
    package let contextLength: Int
    /// Base of the rotary frequencies.
    package let ropeTheta: Double
    /// Leading features of each head that rotate; even, at most `headDim`.
    package let ropeDimension: Int
    /// Which pairs of features rotate together.
    package let ropeLayout: RotaryLayout
    /// How positions are stretched. Per-frequency factors, where a model has them, are the tensor `rope_freqs.weight`.
    package let ropeScaling: RopeScaling
    /// Base of the unstretched rotary frequencies of windowed layers, where they have their own.
    package internal(set) var localRopeTheta: Double?
    /// Added to the mean square inside every RMS norm.
    package let rmsEpsilon: Float
    /// Whether the embedding table also maps hidden states to logits.
    package let hasTiedEmbeddings: Bool

    // What not every family has.

    /// How feed-forward blocks activate their gates.
    package internal(set) var activation = GateActivation.silu
    /// What embeddings are multiplied by.
    package internal(set) var embeddingScale: Float = 1
    /// What is added to the stored weights of norms.
    package internal(set) var normOffset: Float = 0
    /// What products of queries and keys are multiplied by; nil for 1 / √headDim.
    package internal(set) var attentionScale: Float?
    /// Soft caps of attention scores and of logits.
    package internal(set) var attentionSoftCap: Float?
    package internal(set) var logitSoftCap: Float?
    /// Positions that windowed layers look back on, their own included, and which layers those are.
    package internal(set) var slidingWindow: Int?
    package internal(set) var windowedLayers: Set<Int> = []
    /// Layers that do not rotate.
    package internal(set) var unrotatedLayers: Set<Int> = []
    /// The mixture of experts in place of each layer's feed-forward network.
    package internal(set) var experts: ExpertConfig?

    /// Positions that the keys of every layer are looked back on from; nil where some layer looks back on all.
    package var commonWindow: Int? { windowedLayers.count == layerCount ? slidingWindow : nil }

    /// Hyper-parameters that are known to fit together; nothing is checked.
    package init(
        architecture: String, name: String?, layerCount: Int, hiddenSize: Int, ffnSize: Int, headCount: Int,
        kvHeadCount: Int, headDim: Int, vocabSize: Int, contextLength: Int, ropeTheta: Double, ropeLayout: RotaryLayout,
        rmsEpsilon: Float, hasTiedEmbeddings: Bool
    ) {
        self.init(
            architecture: architecture, name: name, layerCount: layerCount, hiddenSize: hiddenSize, ffnSize: ffnSize,
            headCount: headCount, kvHeadCount: kvHeadCount, headDim: headDim, vocabSize: vocabSize,
            contextLength: contextLength,
            rope: RopeConfig(theta: ropeTheta, dimension: headDim, layout: ropeLayout, scaling: .none),
            rmsEpsilon: rmsEpsilon, hasTiedEmbeddings: hasTiedEmbeddings)
    }

    /// The hyper-parameters that all families share; a family's own are set afterwards.
    init(
        architecture: String, name: String?, layerCount: Int, hiddenSize: Int, ffnSize: Int, headCount: Int,
        kvHeadCount: Int, headDim: Int, vocabSize: Int, contextLength: Int, rope: RopeConfig, rmsEpsilon: Float,
        hasTiedEmbeddings: Bool
    ) {
        self.architecture = architecture
        self.name = name
        self.layerCount = layerCount
        self.hiddenSize = hiddenSize
        self.ffnSize = ffnSize
        self.headCount = headCount
        self.kvHeadCount = kvHeadCount
        self.headDim = headDim
        self.vocabSize = vocabSize
        self.contextLength = contextLength
        ropeTheta = rope.theta
        ropeDimension = rope.dimension
        ropeLayout = rope.layout
        ropeScaling = rope.scaling
        self.rmsEpsilon = rmsEpsilon
        self.hasTiedEmbeddings = hasTiedEmbeddings
    }
}
