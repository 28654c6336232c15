// Paged attention against f64, and bit for bit across block sizes, prefill chunks, batches and threads.

import CPUBackend
import Conformance
import Foundation
import Tensors
import Testing

/// Sequences with their own queries, keys and values, laid into a paged cache in an order a seed chooses.
private struct PagedWorld {
    struct Step {
        /// Which rows of which sequence a step attends: (sequence, first position, count).
        var spans: [(sequence: Int, first: Int, count: Int)]
    }

    let heads: Int
    let kvHeads: Int
    let headDim: Int
    let lengths: [Int]
    /// [length, (heads + 2 × kvHeads) × headDim] of each sequence: q, k, v side by side.
    let qkv: [[Float]]

    var width: Int { (heads + 2 * kvHeads) * headDim }
    var scale: Float { 1 / Float(headDim).squareRoot() }

    init(heads: Int, kvHeads: Int, headDim: Int, lengths: [Int], seed: UInt64 = 1) {
        (self.heads, self.kvHeads, self.headDim, self.lengths) = (heads, kvHeads, headDim, lengths)
        var numbers = SeededNumbers(seed)
        let width = (heads + 2 * kvHeads) * headDim
        qkv = lengths.map { numbers.normals($0 * width) }
    }

    /// Runs the steps and returns the outputs by sequence and position; unvisited rows stay empty.
    func attend(
        _ backend: CPUBackend, blockSize: Int, steps: [Step], poison: Bool = true
    ) throws -> [[[Float]]] {
        let blocksEach = lengths.map { ($0 + blockSize - 1) / blockSize }
        let most = blocksEach.max() ?? 1, blockCount = blocksEach.reduce(3, +)
        let cache = try backend.allocateKVLayer(
            blockCount: blockCount, kvHeads: kvHeads, blockSize: blockSize, headDim: headDim)
        if poison {
            for tensor in [cache.keys, cache.values] {
                let bytes = tensor.elementCount * tensor.dtype.blockByteCount
                if let start = unsafe UnsafeMutableRawPointer(bitPattern: tensor.address) {
                    unsafe memset(start, 0xFF, bytes)
                }
            }
        }
        var numbers = SeededNumbers(UInt64(blockSize))
        var free = Array(Array(0..<Int32(blockCount)).shuffled(using: &numbers))
        var tables = blocksEach.map { count in (0..<count).map { _ in free.removeLast() } }
        // Entries beyond a sequence's blocks are never read as blocks.
        for i in tables.indices { tables[i] += Array(repeating: .max, count: most - tables[i].count) }
        var results: [[[Float]]] = lengths.map { Array(repeating: [], count: $0) }
        for step in steps {
            var rows: [Float] = [], starts: [Int32] = [0], contexts: [Int32] = []
            var slots: [Int32] = [], positions: [Int32] = [], table: [Int32] = []
            for span in step.spans {
                for position in span.first..<span.first + span.count {
                    rows += qkv[span.sequence][position * width..<(position + 1) * width]
                    positions.append(Int32(position))
                    slots.append(
                        tables[span.sequence][position / blockSize] * Int32(blockSize) + Int32(position % blockSize))
                }
                starts.append(Int32(positions.count))
                contexts.append(Int32(span.first + span.count))
                table += tables[span.sequence]
            }
            let x = try backend.tensor(rows, [positions.count, width])
            let tableTensor = try backend.allocate([step.spans.count, most], .i32, purpose: "a test")
            backend.upload(table, count: table.count, to: tableTensor)
            let batch = AttentionBatch(
                tokenCount: positions.count, sequenceCount: step.spans.count,
                maxQueryLength: step.spans.map(\.count).max() ?? 0, maxContextLength: Int(contexts.max() ?? 0),
                queryStarts: try backend.tensor(starts), contextLengths: try backend.tensor(contexts),
                blockTables: tableTensor, slotMapping: try backend.tensor(slots),
                positions: try backend.tensor(positions))
            backend.storeKV(
                x, keyOffset: heads * headDim, valueOffset: (heads + kvHeads) * headDim, kvHeads: kvHeads,
                headDim: headDim, slots: batch.slotMapping, cache: cache)
            let output = try backend.tensor(
                [Float](repeating: .nan, count: positions.count * heads * headDim), [positions.count, heads * headDim])
            backend.attend(
                x, heads: heads, kvHeads: kvHeads, headDim: headDim, scale: scale, cache: cache, batch: batch,
                into: output)
            try backend.synchronize()
            let values = backend.download(output)
            var row = 0
            for span in step.spans {
                for position in span.first..<span.first + span.count {
                    results[span.sequence][position] = Array(
                        values[row * heads * headDim..<(row + 1) * heads * headDim])
                    row += 1
                }
            }
        }
        return results
    }

    /// Every sequence whole, all in one step.
    var oneStep: [Step] { [Step(spans: lengths.enumerated().map { ($0.offset, 0, $0.element) })] }

    /// Largest |error| against f64 over softmax-weighted |values|, for some rows of each sequence.
    func worstError(_ results: [[[Float]]], keysAreBF16: Bool, queriesAreBF16: Bool = false) -> Double {
        var worst = 0.0
        for (s, length) in lengths.enumerated() {
            for position in Set([0, 1, length / 2, length - 2, length - 1]) where (0..<length).contains(position) {
                for head in 0..<heads {
                    let kvHead = head / (heads / kvHeads)
                    func cached(_ offset: Int, _ p: Int, _ d: Int) -> Double {
                        let value = qkv[s][p * width + (offset + kvHead) * headDim + d]
                        return Double(keysAreBF16 ? roundedToBF16(value) : value)
                    }
                    // Queries are rounded as the kernels round them: scaled for weights in base 2.
                    let factor = scale * Float(1.44269504088896341)
                    let query = (0..<headDim).map { d in
                        let element = qkv[s][position * width + head * headDim + d]
                        return queriesAreBF16
                            ? Double(roundedToBF16(element * factor)) * log(2) : Double(element) * Double(scale)
                    }
                    let scores = (0...position).map { p in
                        (0..<headDim).reduce(0.0) { $0 + query[$1] * cached(heads, p, $1) }
                    }
                    let highest = scores.max() ?? 0
                    let weights = scores.map { exp($0 - highest) }
                    let sum = weights.reduce(0, +)
                    for d in 0..<headDim {
                        var expected = 0.0, size = 0.0
                        for p in 0...position {
                            let value = weights[p] / sum * cached(heads + kvHeads, p, d)
                            expected += value
                            size += abs(value)
                        }
                        let result = results[s][position]
                        guard result.count == heads * headDim else { return .infinity }
                        let error = abs(Double(result[head * headDim + d]) - expected) / (size + 1e-9)
                        worst = error.isNaN ? .infinity : max(worst, error)
                    }
                }
            }
        }
        return worst
    }
}

private func roundedToBF16(_ value: Float) -> Float {
    let bits = value.bitPattern
    return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}

/// Every weight is rounded to bf16, and with it the sum that divides it: 2⁻⁹ each, and the exponential's 10⁻⁴.
private let roundedWeightBound = 2 * (0x1p-9 + 1e-4)

struct AttentionTests {
    @Test(arguments: instructionSets, ComputePrecision.allCases)
    func `attention agrees with f64 over head shapes and context lengths`(
        _ instructionSet: CPUInstructionSet, _ precision: ComputePrecision
    ) throws {
        let backend = try CPUBackend(precision: precision, instructionSet: instructionSet, threads: 2)
        let shapes = [(9, 3, 64), (1, 1, 80), (8, 2, 96), (5, 1, 128), (12, 2, 8), (8, 1, 256), (3, 3, 24)]
        for (heads, kvHeads, headDim) in shapes {
            for lengths in [[1], [7, 8], [63, 64, 65], [127], [128, 129], [257]] {
                let world = PagedWorld(heads: heads, kvHeads: kvHeads, headDim: headDim, lengths: lengths)
                let results = try world.attend(backend, blockSize: 16, steps: world.oneStep)
                let isRounded = precision == .auto && instructionSet == .avx512BF16
                let worst = world.worstError(
                    results, keysAreBF16: precision == .auto, queriesAreBF16: isRounded)
                let bound = isRounded ? roundedWeightBound : 4e-6
                #expect(worst < bound, "\(heads)/\(kvHeads) heads of \(headDim), lengths \(lengths)")
            }
        }
    }

    @Test func `long contexts agree with f64`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
        let world = PagedWorld(heads: 6, kvHeads: 2, headDim: 64, lengths: [1000, 1300])
        let results = try world.attend(backend, blockSize: 32, steps: world.oneStep)
        let isRounded = backend.instructionSet == .avx512BF16
        let worst = world.worstError(results, keysAreBF16: true, queriesAreBF16: isRounded)
        #expect(worst < (isRounded ? roundedWeightBound : 4e-6))
    }

    @Test(arguments: instructionSets, ComputePrecision.allCases)
    func `block size, prefill chunks, batch and threads change no bit`(
        _ instructionSet: CPUInstructionSet, _ precision: ComputePrecision
    ) throws {
        let world = PagedWorld(heads: 9, kvHeads: 3, headDim: 64, lengths: [700, 1, 130, 257])
        let alone = (0..<4).map { s in PagedWorld.Step(spans: [(s, 0, world.lengths[s])]) }
        // Two sequences prefill in chunks of 37 and 64 while the others go token by token or in one piece.
        var mixed: [PagedWorld.Step] = []
        var done = [0, 0, 0, 0]
        while done != world.lengths {
            var spans: [(sequence: Int, first: Int, count: Int)] = []
            for (s, most) in [(2, 1), (0, 64), (3, 37), (1, 1)] where done[s] < world.lengths[s] {
                let count = min(most, world.lengths[s] - done[s])
                spans.append((s, done[s], count))
                done[s] += count
            }
            mixed.append(.init(spans: spans))
        }
        let single = try CPUBackend(precision: precision, instructionSet: instructionSet, threads: 1)
        let reference = try world.attend(single, blockSize: 16, steps: alone).map { $0.map(bits) }
        for threads in 1...3 {
            let backend = try CPUBackend(precision: precision, instructionSet: instructionSet, threads: threads)
            for blockSize in threads == 2 ? [8, 16, 32, 64, 128] : [16] {
                let whole = try world.attend(backend, blockSize: blockSize, steps: world.oneStep).map { $0.map(bits) }
                #expect(whole == reference, "block size \(blockSize), \(threads) threads, one step")
                let chunked = try world.attend(backend, blockSize: blockSize, steps: mixed).map { $0.map(bits) }
                #expect(chunked == reference, "block size \(blockSize), \(threads) threads, chunks")
            }
        }
    }

    @Test(arguments: instructionSets)
    func `a single query over a long context is cut between threads without changing a bit`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let world = PagedWorld(heads: 4, kvHeads: 1, headDim: 64, lengths: [2500])
        let steps = [PagedWorld.Step(spans: [(0, 0, 2499)]), .init(spans: [(0, 2499, 1)])]
        let results = try (1...4).map { threads in
            let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: threads)
            return bits(try world.attend(backend, blockSize: 16, steps: steps)[0][2499])
        }
        #expect(results.allSatisfy { $0 == results[0] })
    }

    @Test(arguments: instructionSets)
    func `sequences may share blocks`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        // The second sequence's table points at the first one's block; both ask with the same query.
        let cache = try backend.allocateKVLayer(blockCount: 2, kvHeads: 1, blockSize: 8, headDim: 16)
        var numbers = SeededNumbers(4)
        var rows = numbers.normals(10 * 48)
        for k in 0..<48 { rows[9 * 48 + k] = rows[8 * 48 + k] }
        let x = try backend.tensor(rows, [10, 48])
        backend.storeKV(
            x, keyOffset: 16, valueOffset: 32, kvHeads: 1, headDim: 16,
            slots: try backend.tensor([8, 9, 10, 11, 12, 13, 14, -1, 15, -1]), cache: cache)
        let queries = try backend.tensor(Array(rows[8 * 48..<10 * 48]), [2, 48])
        let output = try backend.allocate([2, 16], .f32, purpose: "a test")
        let tables = try backend.allocate([2, 1], .i32, purpose: "a test")
        backend.upload([1, 1], count: 2, to: tables)
        let batch = AttentionBatch(
            tokenCount: 2, sequenceCount: 2, maxQueryLength: 1, maxContextLength: 8,
            queryStarts: try backend.tensor([0, 1, 2]), contextLengths: try backend.tensor([8, 8]),
            blockTables: tables, slotMapping: try backend.tensor([15, 15]), positions: try backend.tensor([7, 7]))
        backend.attend(
            queries, heads: 1, kvHeads: 1, headDim: 16, scale: 0.25, cache: cache, batch: batch, into: output)
        let result = backend.download(output)
        #expect(result.allSatisfy(\.isFinite) && Array(result[0..<16]) == Array(result[16..<32]))
    }

    @Test func `a layer no kernel can attend is refused`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        #expect(
            throws: BackendError.unsupported(
                operation: "block size 24", reason: "it must be 8, 16, 32, 64 or 128")
        ) {
            try backend.allocateKVLayer(blockCount: 1, kvHeads: 1, blockSize: 24, headDim: 64)
        }
        #expect(
            throws: BackendError.unsupported(
                operation: "attention heads of 100", reason: "it must be a multiple of 8 up to 256")
        ) {
            try backend.allocateKVLayer(blockCount: 1, kvHeads: 1, blockSize: 16, headDim: 100)
        }
        #expect(try backend.kvBytesPerToken(kvHeads: 3, headDim: 64, type: .auto) == 2 * 3 * 64 * 2)
    }
}
