// What every decoder has around its layers: the embedding table, the last norm, the head, the activations.
//
//   x ← scale · embed(tokens);  each layer changes x;  logits ← cap(head(norm(x))) for the rows that are sampled
//
// Of a model in parts, a rank has the rows of its own tokens in both tables: embeddings are summed, logits gathered.

import Checkpoints
import Tensors

/// One block of a decoder. It changes `scratch.hidden`.
protocol DecoderLayer {
    var weightBytes: Int { get }
    func callAsFunction(_ scratch: Activations, batch: AttentionBatch, cache: KVLayer, backend: any Backend)
}

/// What the layers of one model have in common while they are made.
struct LayerContext {
    let config: ModelConfig
    /// Of layers that look back on everything, and of windowed ones.
    let rotary: RotaryEmbedding
    let localRotary: RotaryEmbedding
    let backend: any Backend
    /// nil where adapters are off.
    let adapters: AdapterBank?
}

/// The layers of a model and what is around them.
struct Decoder<Layer: DecoderLayer> {
    let dimensions: ModelDimensions
    let weightBytes: Int
    let activations: Activations
    let adapters: AdapterBank?
    private let embedding: PreparedWeight
    private let embeddingScale: Float
    private let layers: [Layer]
    private let norm: RMSNorm
    let outputNorm: OutputNorm
    private let head: PreparedWeight
    private let logitSoftCap: Float?

    /// - Parameter makeLayer: reads one layer from a reader of its own scope.
    init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void, makeLayer: (LayerContext, WeightReader, Int) throws -> Layer
    ) throws {
        dimensions = ModelDimensions(config)
        let shard = backend.collectives?.shard ?? .whole
        let table = [config.vocabSize / shard.count, config.hiddenSize]
        embedding = try backend.prepare([weights.tensor("token_embd.weight", shape: table)])
        if !shard.isWhole { embedding.firstRow = shard.rank * table[0] }
        embeddingScale = config.embeddingScale
        adapters = try capacity.adapters.map { try AdapterBank($0, plan: weights.plan, backend: backend) }
        let rotary = try RotaryEmbedding(config, weights, capacity: capacity, backend: backend)
        let context = LayerContext(
            config: config, rotary: rotary, localRotary: try rotary.local(config, backend: backend), backend: backend,
            adapters: adapters)
        var layers: [Layer] = []
        for index in 0..<config.layerCount {
            layers.append(try makeLayer(context, weights.scoped("blk.\(index)"), index))
            progress(Double(index + 1) / Double(config.layerCount))
        }
        self.layers = layers
        norm = try RMSNorm(config, weights, "output_norm", backend)
        outputNorm = try OutputNorm(config, weights, "output_norm")
        if config.hasTiedEmbeddings {
            head = embedding
        } else {
            head = try backend.prepare([weights.tensor("output.weight", shape: table)])
        }
        logitSoftCap = config.logitSoftCap
        weightBytes = layers.reduce(embedding.byteCount + (config.hasTiedEmbeddings ? 0 : head.byteCount)) {
            $0 + $1.weightBytes
        }
        activations = try Activations(config, capacity: capacity, backend: backend)
    }

    func forward(_ step: ForwardStep, cache: [KVLayer], backend: any Backend) {
        let scratch = activations.prefix(
            tokens: step.batch.tokenCount, sampledRows: step.sampledRows.rowCount, adapters: step.adapters)
        backend.embed(step.tokens, embedding, into: scratch.hidden)
        backend.collectives?.sum(scratch.hidden)
        if embeddingScale != 1 { backend.apply(.multiply(embeddingScale), to: scratch.hidden) }
        for (layer, layerCache) in zip(layers, cache) {
            layer(scratch, batch: step.batch(ofGroup: layerCache.group), cache: layerCache, backend: backend)
        }
        guard step.sampledRows.rowCount > 0 else { return }
        backend.gatherRows(scratch.hidden, rows: step.sampledRows, into: scratch.sampledHidden)
        norm(scratch.sampledHidden, into: scratch.sampledNormed, backend: backend)
        // Ranks have parts of the head, whose best ones nobody compares yet.
        if step.samplesGreedily, logitSoftCap == nil, backend.collectives == nil {
            return backend.linearToChoose(scratch.sampledNormed, head, into: scratch.logits)
        }
        computeLogits(scratch, backend: backend)
        if let logitSoftCap { backend.apply(.softCap(logitSoftCap), to: scratch.logits) }
    }

    /// Multiplies the sampled rows by the head, or by the rank's part of it.
    private func computeLogits(_ scratch: Activations, backend: any Backend) {
        guard let ranks = backend.collectives, let room = scratch.logitParts else {
            return backend.linear(scratch.sampledNormed, head, into: scratch.logits, mode: .overwrite)
        }
        let (shard, rows) = (ranks.shard, scratch.sampledNormed.rowCount)
        let own = room.rows(shard.rank * rows..<(shard.rank + 1) * rows)
        backend.linear(scratch.sampledNormed, head, into: own, mode: .overwrite)
        ranks.gather(room.prefix(rows: shard.count * rows), into: scratch.logits)
    }
}

/// A model that is a decoder and nothing else.
protocol DecoderModel: LanguageModel {
    associatedtype Layer: DecoderLayer
    var decoder: Decoder<Layer> { get }
}

extension DecoderModel {
    package var dimensions: ModelDimensions { decoder.dimensions }
    package var logits: Tensor { decoder.activations.logits }
    package var hidden: Tensor { decoder.activations.hidden }
    package var sampledHidden: Tensor { decoder.activations.sampledHidden }
    package var outputNorm: OutputNorm { decoder.outputNorm }
    package var weightBytes: Int { decoder.weightBytes }
    package var activationBytes: Int { decoder.activations.byteCount }
    package var adapters: AdapterBank? { decoder.adapters }

    package func forward(_ step: ForwardStep, cache: [KVLayer], backend: any Backend) {
        decoder.forward(step, cache: cache, backend: backend)
    }
}
