// A checkpoint without a file: random weights in the shape of a known model. What a step costs depends on shapes, not
// on what the weights mean.

import Tensors

/// The shape of a model that is measured without its weights.
package struct ModelShape: Sendable {
    package let name: String
    package let config: ModelConfig

    /// The shapes that are known by name.
    package static let all = [
        ModelShape(
            "llama-3.1-8b", layers: 32, hidden: 4096, ffn: 14336, heads: 32, kvHeads: 8, headDim: 128, vocab: 128_256,
            context: 131_072, ropeTheta: 500_000, isTied: false),
        ModelShape(
            "llama-3.2-1b", layers: 16, hidden: 2048, ffn: 8192, heads: 32, kvHeads: 8, headDim: 64, vocab: 128_256,
            context: 131_072, ropeTheta: 500_000, isTied: true),
        ModelShape(
            "smollm2-135m", layers: 30, hidden: 576, ffn: 1536, heads: 9, kvHeads: 3, headDim: 64, vocab: 49_152,
            context: 8192, ropeTheta: 100_000, isTied: true),
    ]

    /// The shape called `name`, or nil.
    package static func named(_ name: String) -> ModelShape? { all.first { $0.name == name } }

    private init(
        _ name: String, layers: Int, hidden: Int, ffn: Int, heads: Int, kvHeads: Int, headDim: Int, vocab: Int,
        context: Int, ropeTheta: Double, isTied: Bool
    ) {
        self.name = name
        config = ModelConfig(
            architecture: "llama", name: name, layerCount: layers, hiddenSize: hidden, ffnSize: ffn, headCount: heads,
            kvHeadCount: kvHeads, headDim: headDim, vocabSize: vocab, contextLength: context, ropeTheta: ropeTheta,
            ropeLayout: .interleaved, rmsEpsilon: 1e-5, hasTiedEmbeddings: isTied)
    }

    /// Every tensor of a checkpoint of this shape but the norms' vectors, by GGUF's names. The factors that stretch
    /// Llama 3's rotation are left out; they cost nothing.
    package var matrices: [(name: String, shape: [Int])] {
        let queries = config.headCount * config.headDim
        let keys = config.kvHeadCount * config.headDim
        let layer = [
            ("attn_q", [queries, config.hiddenSize]), ("attn_k", [keys, config.hiddenSize]),
            ("attn_v", [keys, config.hiddenSize]), ("attn_output", [config.hiddenSize, queries]),
            ("ffn_gate", [config.ffnSize, config.hiddenSize]), ("ffn_up", [config.ffnSize, config.hiddenSize]),
            ("ffn_down", [config.hiddenSize, config.ffnSize]),
        ]
        let table = [config.vocabSize, config.hiddenSize]
        return [("token_embd.weight", table)] + (config.hasTiedEmbeddings ? [] : [("output.weight", table)])
            + (0..<config.layerCount).flatMap { index in layer.map { ("blk.\(index).\($0.0).weight", $0.1) } }
    }

    /// The vectors of the norms, each of the hidden size.
    package var vectors: [String] {
        ["output_norm.weight"]
            + (0..<config.layerCount).flatMap { ["blk.\($0).attn_norm.weight", "blk.\($0).ffn_norm.weight"] }
    }

    /// All elements of all tensors.
    package var parameterCount: Int {
        matrices.reduce(vectors.count * config.hiddenSize) { $0 + $1.shape.reduce(1, *) }
    }
}

/// Random weights in the shape of a model. All matrices share the memory of the largest.
package final class SyntheticCheckpoint: TensorSource, Sendable {
    package let path: String
    package let tensorNames: [String]
    private let shapes: [String: [Int]]
    private let matrices: RandomWeights
    private let vectors: RandomWeights

    /// - Parameter dtype: of the matrices; the vectors are f32.
    package init(_ shape: ModelShape, dtype: DType) {
        let vectorShape = [shape.config.hiddenSize]
        path = "\(shape.name), random \(dtype.rawValue) weights"
        tensorNames = shape.matrices.map(\.name) + shape.vectors
        shapes = Dictionary(uniqueKeysWithValues: shape.matrices + shape.vectors.map { ($0, vectorShape) })
        matrices = RandomWeights(
            dtype, elementCount: shape.matrices.map { $0.shape.reduce(1, *) }.max() ?? dtype.blockElementCount)
        vectors = RandomWeights(onesOf: shape.config.hiddenSize)
    }

    package func storedTensor(_ name: String) -> SourceTensor? {
        guard let shape = shapes[name] else { return nil }
        let weights = shape.count == 1 ? vectors : matrices
        return SourceTensor(tensor: weights.tensor(name, shape: shape), infoOffset: 0)
    }

    package func requireUnchanged() {}
}
