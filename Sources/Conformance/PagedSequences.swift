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
    /// Leading positions that all sequences have in common, and the blocks of them: a multiple of the block size. Only
    /// the first sequence's spans store them.
    let sharedLength: Int
    /// [length, (heads + 2 × kvHeads) × headDim] of each sequence: q, k, v side by side.
    let qkv: [[Float]]
    /// What keys and values are kept as.
    var type = KVCacheType.auto
    /// What attention does beside the usual.
    var window: Int?
    var softCap: Float?
    /// [heads]
    var sinks: [Float]?

    var width: Int { (heads + 2 * kvHeads) * headDim }
    var scale: Float { 1 / Float(headDim).squareRoot() }
    /// Every sequence whole, all in one step.
    var oneStep: [[Span]] { [lengths.enumerated().map { Span(sequence: $0.offset, first: 0, count: $0.element) }] }

    init(heads: Int, kvHeads: Int, headDim: Int, lengths: [Int], sharedLength: Int = 0, seed: UInt64 = 1) {
        (self.heads, self.kvHeads, self.headDim, self.lengths) = (heads, kvHeads, headDim, lengths)
        self.sharedLength = sharedLength
        var numbers = SeededNumbers(seed)
        let width = (heads + 2 * kvHeads) * headDim
        let shared = numbers.normals(sharedLength * width)
        qkv = lengths.map {
            (shared + numbers.normals(max(0, $0 - sharedLength) * width)).prefix($0 * width).map(\.self)
        }
    }

    /// What sequences have in common, for each but the first.
    var wholePrefixes: [Span] {
        lengths.indices.dropFirst().map { Span(sequence: $0, first: 0, count: min(sharedLength, lengths[$0])) }
    }

    /// Rows of each sequence: from `start` of it to `end`, no more than it has, and not the shared ones of any but the
    /// first. Both are counted from the end when negative.
    func step(from start: Int, to end: Int) -> [Span] {
        lengths.enumerated().map { sequence, length in
            let least = sequence == 0 ? 0 : min(sharedLength, length)
            let first = max(least, start < 0 ? length + start : min(start, length))
            return Span(
                sequence: sequence, first: first, count: max(0, (end <= 0 ? length + end : min(end, length)) - first))
        }.filter { $0.count > 0 }
    }

    /// Runs the steps and returns the outputs by sequence and position; rows not visited stay empty.
    /// - Parameter stored: rows whose keys and values are there before the first step.
    /// - Parameter isShared: whether the blocks of what sequences have in common are the same ones.
    /// - Parameter fill: sequences without rows, and rows without a sequence, that each step is filled up with.
    func attend(
        _ backend: any Backend, blockSize: Int, stored: [Span] = [], steps: [[Span]], isShared: Bool = false,
        fill: Int = 0
    ) throws -> [[[Float]]] {
        let blocksEach = lengths.map { ($0 + blockSize - 1) / blockSize }
        let most = blocksEach.max() ?? 1
        // The last of three that no sequence has is for rows without one.
        let blockCount = blocksEach.reduce(3, +)
        let cache = try backend.allocateKVLayer(
            blockCount: blockCount, kvHeads: kvHeads, blockSize: blockSize, headDim: headDim, type: type)
        try poison(cache, blockCount: blockCount, backend)
        var numbers = SeededNumbers(UInt64(blockSize))
        var free = Array(0..<Int32(blockCount)).shuffled(using: &numbers)
        var tables = blocksEach.map { count in (0..<count).map { _ in free.removeLast() } }
        for i in tables.indices.dropFirst() where isShared {
            for block in 0..<sharedLength / blockSize { tables[i][block] = tables[0][block] }
        }
        // Entries beyond a sequence's blocks are never read as blocks.
        for i in tables.indices { tables[i] += Array(repeating: .max, count: most - tables[i].count) }
        var results: [[[Float]]] = lengths.map { Array(repeating: [], count: $0) }
        if !stored.isEmpty { _ = try store(batch(stored, tables: tables, blockSize: blockSize), cache, backend) }
        for spans in steps {
            var rows = batch(spans, tables: tables, blockSize: blockSize)
            rows.fill(fill, width: width, block: free[0], blockSize: blockSize)
            let values = try run(rows, cache: cache, backend)
            let outputWidth = heads * headDim
            var row = 0
            for span in spans {
                for position in span.first..<span.first + span.count {
                    results[span.sequence][position] = Array(values[row * outputWidth..<(row + 1) * outputWidth])
                    row += 1
                }
            }
        }
        return results
    }

    private func batch(_ spans: [Span], tables: [[Int32]], blockSize: Int) -> BatchRows {
        var batch = BatchRows(blocksPerSequence: tables.first?.count ?? 1)
        for span in spans {
            for position in span.first..<span.first + span.count {
                batch.values += qkv[span.sequence][position * width..<(position + 1) * width]
                batch.positions.append(Int32(position))
                let block = tables[span.sequence][position / blockSize]
                batch.slots.append(block * Int32(blockSize) + Int32(position % blockSize))
            }
            batch.starts.append(Int32(batch.positions.count))
            batch.contexts.append(Int32(span.first + span.count))
            batch.tables += hiding(tables[span.sequence], before: span.first, blockSize: blockSize)
            batch.longestQuery = max(batch.longestQuery, span.count)
        }
        return batch
    }

    /// A table without the blocks that lie wholly behind the window of the row at `position`.
    private func hiding(_ table: [Int32], before position: Int, blockSize: Int) -> [Int32] {
        let hidden = firstSeen(from: position) / blockSize
        return table.enumerated().map { $0.offset < hidden ? .max : $0.element }
    }

    /// The first position that the row at `position` looks back on.
    private func firstSeen(from position: Int) -> Int { window.map { max(0, position + 1 - $0) } ?? 0 }

    /// Writes the rows' keys and values; returns the rows.
    private func store(_ rows: BatchRows, _ cache: KVLayer, _ backend: any Backend) throws -> Tensor {
        let x = try backend.tensor(rows.values, [rows.positions.count, width])
        backend.storeKV(
            x, keyOffset: heads * headDim, valueOffset: (heads + kvHeads) * headDim, kvHeads: kvHeads,
            headDim: headDim, slots: try backend.tensor(rows.slots), cache: cache)
        return x
    }

    /// [rows, heads × headDim] one step's outputs.
    private func run(_ rows: BatchRows, cache: KVLayer, _ backend: any Backend) throws -> [Float] {
        let x = try store(rows, cache, backend)
        let (count, sequences) = (rows.positions.count, rows.contexts.count)
        let batch = AttentionBatch(
            tokenCount: count, sequenceCount: sequences, maxQueryLength: rows.longestQuery,
            maxContextLength: Int(rows.contexts.max() ?? 0), queryStarts: try backend.tensor(rows.starts),
            contextLengths: try backend.tensor(rows.contexts),
            blockTables: try backend.tensor(rows.tables, [sequences, rows.blocksPerSequence]),
            slotMapping: try backend.tensor(rows.slots), positions: try backend.tensor(rows.positions))
        let outputWidth = heads * headDim
        let output = try backend.tensor(
            [Float](repeating: .nan, count: count * outputWidth), [count, outputWidth], backend.linearInputType)
        backend.attend(
            x, heads: heads, kvHeads: kvHeads, headDim: headDim,
            options: AttentionOptions(
                scale: scale, slidingWindow: window, logitSoftCap: softCap,
                sinks: try sinks.map { try backend.tensor($0, [heads]) }),
            cache: cache, batch: batch, into: output)
        try backend.synchronize()
        return backend.download(output)
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
    /// Keys and values are those the cache holds. A backend that computes in bf16 rounds its scaled queries and its
    /// weights p too, of a cache of 8 bits times their value's scale: the first is repeated here, the second may move a
    /// result by 2⁻⁸ Σ p|v|. One that computes with integers rounds queries too, which is repeated here; a weight times
    /// its value's scale is then 16 bits of the largest such product, which may move a result by half a unit for every
    /// position, and the exponentials by 2⁻¹².
    /// - Parameter last: how many of each sequence's last rows there are; nil for all.
    func worstError(_ results: [[[Float]]], _ backend: any Backend, last: Int? = nil) throws -> Double {
        var worst = WorstError()
        let type = try backend.kvCacheType(type)
        let isInteger = type == .int8PerTokenHead && backend.linearInputType == .f32
        let share = type == .float32 ? 4e-6 : isInteger ? 0x1p-12 : 0x1p-8
        for (sequence, length) in lengths.enumerated() {
            let rows = max(0, length - (last ?? length))..<length
            for position in Set([0, 1, length / 2, length - 2, length - 1]) where rows.contains(position) {
                let result = results[sequence][position]
                worst.note(result.count == heads * headDim)
                guard result.count == heads * headDim else { continue }
                for head in 0..<heads {
                    let (exact, sizes, unit) = reference(sequence, position, head, type, isInteger: isInteger)
                    for d in 0..<headDim {
                        worst.note(
                            Double(result[head * headDim + d]) - exact[d],
                            allowed: share * (sizes[d] + abs(exact[d])) + unit + 1e-9)
                    }
                }
            }
        }
        return worst.value
    }

    /// [headDim] Σ p·v and Σ p·|v| of one row and head, and what rounding the weights of 8-bit values may move them by.
    private func reference(
        _ sequence: Int, _ position: Int, _ head: Int, _ type: KVCacheType, isInteger: Bool
    ) -> (values: [Double], sizes: [Double], unit: Double) {
        let kvHead = head / (heads / kvHeads)
        let log2e = Float(1.4426950408889634)
        func cached(_ offset: Int, _ p: Int) -> [Double] {
            let start = p * width + (offset + kvHead) * headDim
            return Self.kept(qkv[sequence][start..<start + headDim], type)
        }
        let start = position * width + head * headDim
        let given = qkv[sequence][start..<start + headDim]
        let query =
            switch type {
            case .float32: given.map { Double($0) * Double(scale) }
            case .int8PerTokenHead where isInteger:
                Self.rounded(given, most: 127 * 128 + 63).map { $0 * Double(scale) }
            default: given.map { Double(($0 * (scale * log2e)).roundedToBF16) / Double(log2e) }
            }
        let seen = firstSeen(from: position)...position
        let scores = seen.map { p in
            let score = zip(query, cached(heads, p)).reduce(0.0) { $0 + $1.0 * $1.1 }
            return softCap.map { Double($0) * tanh(score / Double($0)) } ?? score
        }
        let sink = sinks.map { Double($0[head]) } ?? -.infinity
        let highest = max(scores.max() ?? 0, sink)
        let weights = scores.map { exp($0 - highest) }
        let sum = weights.reduce(exp(sink - highest), +)
        var values = [Double](repeating: 0, count: headDim)
        var sizes = values
        var largest = 0.0
        for p in seen {
            for (d, element) in cached(heads + kvHeads, p).enumerated() {
                let value = weights[p - seen.lowerBound] / sum * element
                values[d] += value
                sizes[d] += abs(value)
                largest = max(largest, abs(value))
            }
        }
        return (values, sizes, isInteger ? Double(seen.count) * largest / 131_070 : 0)
    }

    /// A token's key or value of one head, as a cache of `type` gives it back.
    private static func kept(_ values: ArraySlice<Float>, _ type: KVCacheType) -> [Double] {
        switch type {
        case .bfloat16: values.map { Double($0.roundedToBF16) }
        case .int8PerTokenHead: rounded(values, most: 127)
        case .fp8: roundedToE4M3(values)
        default: values.map { Double($0) }
        }
    }

    /// Whole multiples of the largest magnitude's `most`-th part.
    private static func rounded(_ values: ArraySlice<Float>, most: Float) -> [Double] {
        let largest = values.reduce(0) { max($0, abs($1)) }
        let factor = most / largest, unit = Double(largest) / Double(most)
        return values.map { Double(($0 * factor).rounded(.toNearestOrEven)) * unit }
    }
}

extension PagedSequences {
    /// Numbers of three bits behind the first, no finer than 2⁻⁹, times the least power of two with which none exceeds
    /// 448.
    private static func roundedToE4M3(_ values: ArraySlice<Float>) -> [Double] {
        let largest = Double(values.reduce(0) { max($0, abs($1)) })
        var scale = 1.0
        while largest > 448 * scale { scale *= 2 }
        while largest > 0 && largest <= 224 * scale { scale /= 2 }
        return values.map { value in
            let number = Double(value) / scale
            let unit = exp2(max(floor(log2(max(abs(number), 0x1p-100))), -6) - 3)
            return (number / unit).rounded(.toNearestOrEven) * unit * scale
        }
    }
}

/// The rows of one step, and what describes them.
private struct BatchRows {
    let blocksPerSequence: Int
    var values: [Float] = []
    var positions: [Int32] = []
    var slots: [Int32] = []
    var starts: [Int32] = [0]
    var contexts: [Int32] = []
    var tables: [Int32] = []
    var longestQuery = 0

    /// Adds sequences without rows, and as many rows of NaN without a sequence, which go to a block that nobody reads.
    mutating func fill(_ count: Int, width: Int, block: Int32, blockSize: Int) {
        for index in 0..<count {
            starts.append(starts[starts.count - 1])
            contexts.append(0)
            tables += Array(repeating: .max, count: blocksPerSequence)
            values += Array(repeating: .nan, count: width)
            positions.append(0)
            slots.append(block * Int32(blockSize) + Int32(index % blockSize))
        }
    }
}
