// Steps performed as a whole against the same operations one by one.

import CPUBackend
import Conformance
import Tensors
import Testing

/// One layer of a small model over sequences of which some have one row and some many.
private struct SmallStep {
    let heads = 6
    let kvHeads = 2
    let headDim = 16
    let hidden = 96
    let blockSize = 16
    let ffn = 192
    /// Rows of each sequence, and its positions before them.
    let queries: [(rows: Int, past: Int)]

    var rowCount: Int { queries.reduce(0) { $0 + $1.rows } }

    /// What is normed and gated last, and the hidden state of all rows, after two layers that share their weights and
    /// have each their cache.
    func run(threads: Int, isWhole: Bool) throws -> [Float] {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: threads)
        var numbers = SeededNumbers(3)
        let width = (heads + 2 * kvHeads) * headDim
        let past = queries.map(\.past).max() ?? 0
        let qkvWeight = try backend.prepare([EncodedMatrix(.q4_1, rows: width, columns: hidden, seed: 1).tensor])
        let outWeight = try backend.prepare([EncodedMatrix(.q8_0, rows: hidden, columns: hidden, seed: 2).tensor])
        let gateUpWeight = try backend.prepare([
            EncodedMatrix(.q4_1, rows: ffn, columns: hidden, seed: 4).tensor,
            EncodedMatrix(.q4_0, rows: ffn, columns: hidden, seed: 5).tensor,
        ])
        let downWeight = try backend.prepare([EncodedMatrix(.q4_1, rows: hidden, columns: ffn, seed: 6).tensor])
        let blocksEach = (past + (queries.map(\.rows).max() ?? 0) + blockSize - 1) / blockSize
        let blockCount = blocksEach * queries.count
        let caches = try (0..<2).map { _ in
            try backend.allocateKVLayer(
                blockCount: blockCount, kvHeads: kvHeads, blockSize: blockSize, headDim: headDim)
        }
        let slotCount = blockCount * blockSize
        let pastRows = try backend.tensor(numbers.normals(slotCount * width), [slotCount, width])
        let allSlots = try backend.tensor((0..<Int32(slotCount)).map { $0 })
        for cache in caches { store(pastRows, allSlots, cache, backend) }
        var (starts, contexts, positions, slots): ([Int32], [Int32], [Int32], [Int32]) = ([0], [], [], [])
        for (index, query) in queries.enumerated() {
            for position in query.past..<query.past + query.rows {
                positions.append(Int32(position))
                slots.append(Int32(index * blocksEach * blockSize + position))
            }
            starts.append(Int32(positions.count))
            contexts.append(Int32(query.past + query.rows))
        }
        let tables = try backend.allocate([queries.count, blocksEach], .i32, purpose: "a test")
        backend.upload((0..<Int32(blockCount)).map { $0 }, count: blockCount, to: tables)
        let batch = AttentionBatch(
            tokenCount: rowCount, sequenceCount: queries.count, maxQueryLength: queries.map(\.rows).max() ?? 0,
            maxContextLength: Int(contexts.max() ?? 0), queryStarts: try backend.tensor(starts),
            contextLengths: try backend.tensor(contexts),
            blockTables: tables, slotMapping: try backend.tensor(slots), positions: try backend.tensor(positions))
        let x = try backend.tensor(numbers.normals(rowCount * hidden), [rowCount, hidden])
        let normed = try backend.allocate([rowCount, hidden], .f32, purpose: "a test")
        let qkv = try backend.allocate([rowCount, width], .f32, purpose: "a test")
        let attended = try backend.allocate([rowCount, hidden], .f32, purpose: "a test")
        let gateUp = try backend.allocate([rowCount, 2 * ffn], .f32, purpose: "a test")
        let gated = try backend.allocate([rowCount, ffn], .f32, purpose: "a test")
        let last = try backend.allocate([1, hidden], .f32, purpose: "a test")
        let scale = try backend.tensor(numbers.normals(hidden), [hidden])
        let frequencies = try backend.tensor([Float](repeating: 0.1, count: headDim / 2), [headDim / 2])
        let lastRow = try backend.tensor([Int32(rowCount - 1)])
        let shape = StepShape(
            tokenCount: rowCount, sequenceCount: queries.count, sampledRowCount: 1, isDecodeOnly: false)
        let operations = {
            for cache in caches {
                backend.rmsNorm(x, weight: scale, epsilon: 1e-5, into: normed)
                backend.linear(normed, qkvWeight, into: qkv, mode: .overwrite)
                backend.rotate(
                    qkv, heads: heads + kvHeads, headDim: headDim, positions: batch.positions,
                    frequencies: frequencies, layout: .interleaved)
                store(qkv, batch.slotMapping, cache, backend)
                backend.attend(
                    qkv, heads: heads, kvHeads: kvHeads, headDim: headDim, scale: 0.25, cache: cache, batch: batch,
                    into: attended)
                backend.linear(attended, outWeight, into: x, mode: .accumulate)
                backend.rmsNorm(x, weight: scale, epsilon: 1e-5, into: normed)
                backend.linear(normed, gateUpWeight, into: gateUp, mode: .overwrite)
                backend.gate(gateUp, .silu, into: gated)
                backend.linear(gated, downWeight, into: x, mode: .accumulate)
            }
            backend.gatherRows(x, rows: lastRow, into: last)
        }
        if isWhole { backend.perform(shape, operations) } else { operations() }
        try backend.synchronize()
        return backend.download(normed) + backend.download(gated) + backend.download(x) + backend.download(last)
    }

    private func store(_ x: Tensor, _ slots: Tensor, _ cache: KVLayer, _ backend: CPUBackend) {
        backend.storeKV(
            x, keyOffset: heads * headDim, valueOffset: (heads + kvHeads) * headDim, kvHeads: kvHeads,
            headDim: headDim, slots: slots, cache: cache)
    }
}

struct StepTests {
    @Test(arguments: [
        [(rows: 1, past: 0)], Array(repeating: (rows: 1, past: 40), count: 16),
        [(rows: 61, past: 5)], [(rows: 1, past: 3000)], Array(repeating: (rows: 1, past: 40), count: 7),
        [(rows: 1, past: 3), (rows: 3, past: 17), (rows: 1, past: 5000)],
        [(rows: 1, past: 300), (rows: 1, past: 3), (rows: 30, past: 0), (rows: 40, past: 130), (rows: 1, past: 17)],
    ])
    func `a step gives what its operations give one by one`(_ queries: [(rows: Int, past: Int)]) throws {
        let step = SmallStep(queries: queries)
        let expected = try step.run(threads: 1, isWhole: false)
        #expect(expected.allSatisfy(\.isFinite) && expected.suffix(96) == expected.dropLast(96).suffix(96))
        for threads in [1, 2, 3, 8] {
            for _ in 0..<5 { #expect(try step.run(threads: threads, isWhole: true) == expected, "\(threads) threads") }
        }
    }

    @Test func `operations on other rows run in their turn`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
        var numbers = SeededNumbers(5)
        let wide = try backend.tensor(numbers.normals(16 * 64), [16, 64])
        let narrow = try backend.allocate([2, 64], .f32, purpose: "a test")
        let rows = try backend.tensor([3, 11] as [Int32])
        let scale = try backend.tensor([Float](repeating: 2, count: 64), [64])
        let shape = StepShape(tokenCount: 16, sequenceCount: 16, sampledRowCount: 2, isDecodeOnly: true)
        backend.perform(shape) {
            backend.rmsNorm(wide, weight: scale, epsilon: 1e-5, into: wide)
            backend.gatherRows(wide, rows: rows, into: narrow)
            backend.rmsNorm(wide, weight: scale, epsilon: 1e-5, into: wide)
        }
        let all = backend.download(wide)
        let two = backend.download(narrow)
        // Normed twice by 2: rows of mean square 4 stay as they are.
        let isSame = zip(two, all[3 * 64..<4 * 64] + all[11 * 64..<12 * 64]).allSatisfy { abs($0 - $1) < 1e-4 }
        #expect(isSame && two.allSatisfy(\.isFinite))
    }
}
