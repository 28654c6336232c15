// What the operations under measurement read and write: random weights, activations and caches, made once and shared by
// the cases that follow one another.
//
// What an operation streams exists in several copies that together exceed the last-level cache, and calls take them in
// turn: in a model, a weight that is read again has long left the cache.

import Checkpoints
import Conformance
import Tensors

/// Makes operands, and keeps those that the next case may use again.
package final class KernelOperands {
    let backend: any Backend
    /// Bytes that the copies of a streamed operand have together.
    private let coldBytes: Int
    private var random: RandomWeights?
    private var latestWeights: (dtype: DType, rows: Int, columns: Int, copies: [PreparedWeight])?
    private var latestContexts: (shape: ContextShape, contexts: Contexts)?
    private var floats: [FloatKey: Tensor] = [:]

    /// The most copies of one operand.
    private static let maxCopies = 128

    private struct FloatKey: Hashable {
        let columns: Int
        let dtype: DType
        let isOutput: Bool
    }

    package init(_ backend: any Backend, coldBytes: Int) {
        self.backend = backend
        self.coldBytes = coldBytes
    }

    private func copyCount(_ byteCount: Int) -> Int {
        min(Self.maxCopies, max(2, (coldBytes + byteCount - 1) / max(1, byteCount)))
    }

    /// As many of `make` as are wanted, or as memory allows: at least one.
    private func copies<Copy>(of byteCount: Int, _ make: () throws -> Copy) throws -> [Copy] {
        var copies = [try make()]
        while copies.count < copyCount(byteCount) {
            do { copies.append(try make()) } catch BackendError.outOfMemory { break }
        }
        return copies
    }

    // MARK: Weights

    /// Copies of a random matrix.
    func weights(_ dtype: DType, rows: Int, columns: Int) throws -> [PreparedWeight] {
        if let latest = latestWeights, (latest.dtype, latest.rows, latest.columns) == (dtype, rows, columns) {
            return latest.copies
        }
        latestWeights = nil
        latestContexts = nil
        let random: RandomWeights
        if let latest = self.random, latest.dtype == dtype, latest.elementCount >= rows * columns {
            random = latest
        } else {
            self.random = nil
            random = RandomWeights(dtype, elementCount: rows * columns)
        }
        self.random = random
        let stored = random.matrix("weights", rows: rows, columns: columns)
        let byteCount = rows * (dtype.rowByteCount(elementCount: columns) ?? 0)
        let copies = try copies(of: byteCount) { try backend.prepare([stored]) }
        latestWeights = (dtype: dtype, rows: rows, columns: columns, copies: copies)
        return copies
    }

    // MARK: Activations

    /// [rows, columns] random activations, of a type an operation reads.
    func input(rows: Int, columns: Int, _ dtype: DType) throws -> Tensor {
        try floats(rows: rows, key: FloatKey(columns: columns, dtype: dtype, isOutput: false))
    }

    /// [rows, columns] for what an operation writes.
    func output(rows: Int, columns: Int, _ dtype: DType) throws -> Tensor {
        try floats(rows: rows, key: FloatKey(columns: columns, dtype: dtype, isOutput: true))
    }

    private func floats(rows: Int, key: FloatKey) throws -> Tensor {
        if let tensor = floats[key], tensor.rowCount >= rows { return tensor.prefix(rows: rows) }
        floats[key] = nil
        let tensor = try backend.allocate([rows, key.columns], key.dtype, purpose: "activations")
        if !key.isOutput { backend.upload(Self.randomFloats(rows * key.columns), to: tensor) }
        floats[key] = tensor
        return tensor
    }

    /// Random numbers around 0, of which a few thousand repeat.
    private static func randomFloats(_ count: Int) -> [Float] {
        var numbers = SeededNumbers(1)
        let pattern = numbers.normals(min(count, 8191))
        var values: [Float] = []
        values.reserveCapacity(count + pattern.count)
        while values.count < count { values += pattern }
        values.removeLast(values.count - count)
        return values
    }

    func integers(_ values: [Int32], _ shape: Shape? = nil) throws -> Tensor {
        let tensor = try backend.allocate(shape ?? [values.count], .i32, purpose: "indices")
        backend.upload(values, count: values.count, to: tensor)
        return tensor
    }

    /// Forgets everything: the next case is of another kind.
    func release() {
        latestWeights = nil
        latestContexts = nil
        floats = [:]
    }

    // MARK: Contexts

    /// Filled caches of one layer, and a step over them.
    struct Contexts {
        let caches: [KVLayer]
        let batch: AttentionBatch
    }

    /// Sequences of equal length, of which the last `query` tokens are attended.
    func contexts(_ shape: ContextShape) throws -> Contexts {
        if let latest = latestContexts, latest.shape == shape { return latest.contexts }
        release()
        let blockSize = 16
        let blocksEach = (shape.context + blockSize - 1) / blockSize
        let blockCount = shape.sequences * blocksEach
        var numbers = SeededNumbers(2)
        // As a server's pages lie after a while.
        let blocks = (0..<Int32(blockCount)).shuffled(using: &numbers)
        let caches = try copies(of: try shape.cacheBytes(backend)) {
            let cache = try backend.allocateKVLayer(
                blockCount: blockCount, kvHeads: shape.kvHeads, blockSize: blockSize, headDim: shape.headDim,
                type: shape.type)
            try fill(cache, shape, slotCount: blockCount * blockSize)
            return cache
        }
        var (positions, slots): ([Int32], [Int32]) = ([], [])
        for sequence in 0..<shape.sequences {
            for position in shape.context - shape.query..<shape.context {
                positions.append(Int32(position))
                slots.append(blocks[sequence * blocksEach + position / blockSize] * 16 + Int32(position % blockSize))
            }
        }
        let batch = AttentionBatch(
            tokenCount: positions.count, sequenceCount: shape.sequences, maxQueryLength: shape.query,
            maxContextLength: shape.context,
            queryStarts: try integers((0...Int32(shape.sequences)).map { $0 * Int32(shape.query) }),
            contextLengths: try integers(Array(repeating: Int32(shape.context), count: shape.sequences)),
            blockTables: try integers(blocks, [shape.sequences, blocksEach]), slotMapping: try integers(slots),
            positions: try integers(positions))
        let contexts = Contexts(caches: caches, batch: batch)
        latestContexts = (shape: shape, contexts: contexts)
        return contexts
    }

    /// Writes random keys and values to every slot.
    private func fill(_ cache: KVLayer, _ shape: ContextShape, slotCount: Int) throws {
        let width = 2 * shape.kvHeads * shape.headDim
        let rowsAtOnce = min(slotCount, 2048)
        let rows = try input(rows: rowsAtOnce, columns: width, .f32)
        for first in stride(from: 0, to: slotCount, by: rowsAtOnce) {
            let count = min(rowsAtOnce, slotCount - first)
            backend.storeKV(
                rows.prefix(rows: count), keyOffset: 0, valueOffset: width / 2, kvHeads: shape.kvHeads,
                headDim: shape.headDim, slots: try integers((Int32(first)..<Int32(first + count)).map { $0 }),
                cache: cache)
        }
        try backend.synchronize()
    }
}

/// Sequences of equal length under attention.
package struct ContextShape: Equatable, Sendable {
    let sequences: Int
    let query: Int
    let context: Int
    let heads: Int
    let kvHeads: Int
    let headDim: Int
    /// What keys and values are kept as.
    var type = KVCacheType.auto

    /// Columns of a row of queries, keys and values.
    var width: Int { (heads + 2 * kvHeads) * headDim }

    /// Bytes of keys and values that attention reads.
    func cacheBytes(_ backend: any Backend) throws -> Int {
        sequences * context * (try backend.kvBytesPerToken(kvHeads: kvHeads, headDim: headDim, type: type))
    }

    /// Pairs of a query and a key that it may see, in one sequence.
    var pairs: Int { query * context - query * (query - 1) / 2 }
}
