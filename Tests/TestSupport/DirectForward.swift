// Running a model without an engine: one sequence, all logits. For comparing precisions token by token.

import Execution
import Models
import Scheduling
import Tensors

/// Logits of every position of one token sequence, computed in one pass.
package struct DirectForward {
    private let parts: EngineParts
    private let cache: [KVLayer]
    private let blockSize = 16
    private let capacity: Int

    /// - Parameter parts: made with room for `capacity` tokens and as many sampled rows.
    package init(_ parts: EngineParts, capacity: Int, kvCacheType: KVCacheType = .auto) throws {
        self.parts = parts
        self.capacity = capacity
        let dimensions = parts.model.dimensions
        cache = try (0..<dimensions.layerCount).map { _ in
            try parts.backend.allocateKVLayer(
                blockCount: (capacity + 15) / 16, kvHeads: dimensions.kvHeadCount, blockSize: 16,
                headDim: dimensions.headDim, type: kvCacheType)
        }
    }

    /// [tokens, vocab] log-probabilities of what follows each position.
    package func logprobs(_ tokens: [TokenID]) throws -> [[Float]] {
        let count = tokens.count
        precondition(count <= capacity)
        let backend = parts.backend
        func tensor(_ values: [Int32]) throws -> Tensor {
            let tensor = try backend.allocate([values.count], .i32, purpose: "test")
            backend.upload(values, count: values.count, to: tensor)
            return tensor
        }
        let rows = (0..<Int32(count)).map { $0 }
        let blocks = (0..<Int32((count + blockSize - 1) / blockSize)).map { $0 }
        let table = try backend.allocate([1, blocks.count], .i32, purpose: "test")
        backend.upload(blocks, count: blocks.count, to: table)
        let step = ForwardStep(
            tokens: try tensor(tokens),
            batch: AttentionBatch(
                tokenCount: count, sequenceCount: 1, maxQueryLength: count, maxContextLength: count,
                queryStarts: try tensor([0, Int32(count)]), contextLengths: try tensor([Int32(count)]),
                blockTables: table, slotMapping: try tensor(rows), positions: try tensor(rows)),
            sampledRows: try tensor(rows))
        parts.model.forward(step, cache: cache, backend: backend)
        try backend.synchronize()
        let logits = backend.download(parts.model.logits.prefix(rows: count))
        let vocabulary = parts.model.dimensions.vocabularyCount
        return (0..<count).map { row in logSoftmax(logits[row * vocabulary..<(row + 1) * vocabulary]) }
    }

    private func logSoftmax(_ logits: ArraySlice<Float>) -> [Float] {
        let best = logits.max() ?? 0
        let total = logits.reduce(0.0) { $0 + Double.exponential(Double($1 - best)) }
        let shift = Double(best) + Double.logarithm(total)
        return logits.map { Float(Double($0) - shift) }
    }
}
