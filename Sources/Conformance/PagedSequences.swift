// Sequences with their own queries, keys and values, laid into a paged cache in an order a seed chooses. Blocks nobody
// uses, and the rest of those that are only begun, hold NaN: reading one shows.

import Foundation
import Tensors

/// A batch's worth of sequences and the reference of their attention.
struct PagedSequences {
    /// Rows of a sequence that a step attends.
    struct Span {
        var sequence: Int
        var first: Int
        var count: Int
    }

    let heads: Int
    let kvHeads: Int
    let headDim: Int
    let lengths: [Int]
    /// [length, (heads + 2 × kvHeads) × headDim] of each sequence: q, k, v side by side.
    let qkv: [[Float]]

    var width: Int { (heads + 2 * kvHeads) * headDim }
    var scale: Float { 1 / Float(headDim).squareRoot() }
    /// Every sequence whole, all in one step.
    var oneStep: [[Span]] { [lengths.enumerated().map { Span(sequence: $0.offset, first: 0, count: $0.element) }] }

    init(heads: Int, kvHeads: Int, headDim: Int, lengths: [Int], seed: UInt64 = 1) {
        (self.heads, self.kvHeads, self.headDim, self.lengths) = (heads, kvHeads, headDim, lengths)
        var numbers = SeededNumbers(seed)
        let width = (heads + 2 * kvHeads) * headDim
        qkv = lengths.map { numbers.normals($0 * width) }
    }

    /// Runs the steps and returns the outputs by sequence and position; rows not visited stay empty.
    func attend(_ backend: any Backend, blockSize: Int, steps: [[Span]]) throws -> [[[Float]]] {
        let blocksEach = lengths.map { ($0 + blockSize - 1) / blockSize }
        let most = blocksEach.max() ?? 1
        let blockCount = blocksEach.reduce(3, +)
        let cache = try backend.allocateKVLayer(
            blockCount: blockCount, kvHeads: kvHeads, blockSize: blockSize, headDim: headDim)
        try poison(cache, blockCount: blockCount, backend)
        var numbers = SeededNumbers(UInt64(blockSize))
        var free = Array(0..<Int32(blockCount)).shuffled(using: &numbers)
        var tables = blocksEach.map { count in (0..<count).map { _ in free.removeLast() } }
        // Entries beyond a sequence's blocks are never read as blocks.
        for i in tables.indices { tables[i] += Array(repeating: .max, count: most - tables[i].count) }
        var results: [[[Float]]] = lengths.map { Array(repeating: [], count: $0) }
        for spans in steps {
            try run(spans, tables: tables, cache: cache, backend, into: &results)
        }
        return results
    }

    private func run(
        _ spans: [Span], tables: [[Int32]], cache: KVLayer, _ backend: any Backend, into results: inout [[[Float]]]
    ) throws {
        var rows: [Float] = []
        var (starts, contexts, slots): ([Int32], [Int32], [Int32]) = ([0], [], [])
        var positions: [Int32] = []
        for span in spans {
            for position in span.first..<span.first + span.count {
                rows += qkv[span.sequence][position * width..<(position + 1) * width]
                positions.append(Int32(position))
                let block = tables[span.sequence][position / cache.blockSize]
                slots.append(block * Int32(cache.blockSize) + Int32(position % cache.blockSize))
            }
            starts.append(Int32(positions.count))
            contexts.append(Int32(span.first + span.count))
        }
        let x = try backend.tensor(rows, [positions.count, width])
        let most = tables.first?.count ?? 1
        let batch = AttentionBatch(
            tokenCount: positions.count, sequenceCount: spans.count, maxQueryLength: spans.map(\.count).max() ?? 0,
            maxContextLength: Int(contexts.max() ?? 0), queryStarts: try backend.tensor(starts),
            contextLengths: try backend.tensor(contexts),
            blockTables: try backend.tensor(spans.flatMap { tables[$0.sequence] }, [spans.count, most]),
            slotMapping: try backend.tensor(slots), positions: try backend.tensor(positions))
        backend.storeKV(
            x, keyOffset: heads * headDim, valueOffset: (heads + kvHeads) * headDim, kvHeads: kvHeads,
            headDim: headDim, slots: batch.slotMapping, cache: cache)
        let outputWidth = heads * headDim
        let output = try backend.tensor(
            [Float](repeating: .nan, count: positions.count * outputWidth), [positions.count, outputWidth],
            backend.linearInputType)
        backend.attend(
            x, heads: heads, kvHeads: kvHeads, headDim: headDim, scale: scale, cache: cache, batch: batch, into: output)
        try backend.synchronize()
        var values = backend.download(output)[...]
        for span in spans {
            for position in span.first..<span.first + span.count {
                results[span.sequence][position] = Array(values.prefix(outputWidth))
                values = values.dropFirst(outputWidth)
            }
        }
    }

    /// Writes NaN to every slot, by way of `storeKV`, which knows the layout.
    private func poison(_ cache: KVLayer, blockCount: Int, _ backend: any Backend) throws {
        let slots = blockCount * cache.blockSize
        let keysAndValues = 2 * kvHeads * headDim
        backend.storeKV(
            try backend.tensor([Float](repeating: .nan, count: slots * keysAndValues), [slots, keysAndValues]),
            keyOffset: 0, valueOffset: kvHeads * headDim, kvHeads: kvHeads, headDim: headDim,
            slots: try backend.tensor((0..<Int32(slots)).map { $0 }), cache: cache)
    }

    /// Largest error against f64 of some rows of each sequence, as a fraction of what is allowed.
    ///
    /// Keys and values are those the cache holds. A backend that multiplies bf16 rounds its scaled queries and its
    /// weights p too: the first is repeated here, the second may move a result by 2⁻⁸ Σ p|v|.
    func worstError(_ results: [[[Float]]], _ backend: any Backend, cacheIsBF16: Bool) -> Double {
        var worst = WorstError()
        let isBF16 = backend.linearInputType == .bf16
        for (sequence, length) in lengths.enumerated() {
            for position in Set([0, 1, length / 2, length - 2, length - 1]) where (0..<length).contains(position) {
                let result = results[sequence][position]
                worst.note(result.count == heads * headDim)
                guard result.count == heads * headDim else { continue }
                for head in 0..<heads {
                    let (exact, sizes) = reference(
                        sequence, position, head, roundsQueries: isBF16, cacheIsBF16: cacheIsBF16)
                    for d in 0..<headDim {
                        worst.note(
                            Double(result[head * headDim + d]) - exact[d],
                            allowed: (isBF16 ? 0x1p-8 : 4e-6) * (sizes[d] + abs(exact[d])) + 1e-9)
                    }
                }
            }
        }
        return worst.value
    }

    /// [headDim] Σ p·v and Σ p·|v| of one row and head.
    private func reference(
        _ sequence: Int, _ position: Int, _ head: Int, roundsQueries: Bool, cacheIsBF16: Bool
    ) -> (values: [Double], sizes: [Double]) {
        let kvHead = head / (heads / kvHeads)
        let log2e = Float(1.4426950408889634)
        func cached(_ offset: Int, _ p: Int, _ d: Int) -> Double {
            let value = qkv[sequence][p * width + (offset + kvHead) * headDim + d]
            return Double(cacheIsBF16 ? value.roundedToBF16 : value)
        }
        let query = (0..<headDim).map { d -> Double in
            let q = qkv[sequence][position * width + head * headDim + d]
            return roundsQueries
                ? Double((q * (scale * log2e)).roundedToBF16) / Double(log2e) : Double(q) * Double(scale)
        }
        let scores = (0...position).map { p in
            (0..<headDim).reduce(0.0) { $0 + query[$1] * cached(heads, p, $1) }
        }
        let highest = scores.max() ?? 0
        let weights = scores.map { exp($0 - highest) }
        let sum = weights.reduce(0, +)
        var values = [Double](repeating: 0, count: headDim)
        var sizes = values
        for p in 0...position {
            for d in 0..<headDim {
                let value = weights[p] / sum * cached(heads + kvHeads, p, d)
                values[d] += value
                sizes[d] += abs(value)
            }
        }
        return (values, sizes)
    }
}
