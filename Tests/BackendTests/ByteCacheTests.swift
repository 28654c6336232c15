// Keys and values in 8 bits: every instruction set, threads, what is not finite, and what is refused.

import CPUBackend
import Conformance
import Tensors
import Testing

struct ByteCacheTests {
    @Test(arguments: instructionSets)
    func `attention over 8-bit keys and values agrees with f64, however it is cut`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        for threads in 1...3 {
            let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: threads)
            for check in ConformanceCase.all where check.name.contains("int8") && check.name.contains("attention") {
                if threads > 1 && !check.name.contains("same bits") { continue }
                let worst = try check.worstError(backend)
                #expect(worst <= 1, "\(check.name): \(worst)")
            }
        }
    }

    @Test(arguments: instructionSets)
    func `what is not finite stays visible, and zeros are zeros`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 1)
        for (bad, isKey) in [(Float.nan, true), (.nan, false), (.infinity, true), (.infinity, false), (0, true)] {
            let cache = try backend.allocateKVLayer(
                blockCount: 1, kvHeads: 1, blockSize: 8, headDim: 8, type: .int8PerTokenHead)
            var rows = [Float](repeating: bad == 0 ? 0 : 1, count: 2 * 24)
            rows[(isKey ? 8 : 16) + 3] = bad
            let x = try backend.tensor(rows, [2, 24])
            backend.storeKV(
                x, keyOffset: 8, valueOffset: 16, kvHeads: 1, headDim: 8, slots: try backend.tensor([0, 1]),
                cache: cache)
            let tables = try backend.allocate([1, 1], .i32, purpose: "a test")
            backend.upload([0], count: 1, to: tables)
            let batch = AttentionBatch(
                tokenCount: 2, sequenceCount: 1, maxQueryLength: 2, maxContextLength: 2,
                queryStarts: try backend.tensor([0, 2]), contextLengths: try backend.tensor([2]),
                blockTables: tables, slotMapping: try backend.tensor([0, 1]), positions: try backend.tensor([0, 1]))
            let output = try backend.allocate([2, 8], .f32, purpose: "a test")
            backend.attend(x, heads: 1, kvHeads: 1, headDim: 8, scale: 1, cache: cache, batch: batch, into: output)
            let result = backend.download(output)
            if bad == 0 {
                #expect(result.allSatisfy { $0 == 0 })
            } else {
                #expect(result[8..<16].contains { !$0.isFinite })
            }
        }
    }

    @Test func `a token takes an 8-bit element for each it had, and a scale for each head's key and value`() throws {
        let backend = try CPUBackend(precision: .float32, instructionSet: nil, threads: 1)
        #expect(try backend.kvBytesPerToken(kvHeads: 3, headDim: 64, type: .int8PerTokenHead) == 2 * 3 * (64 + 4))
        #expect(try backend.kvBytesPerToken(kvHeads: 3, headDim: 64, type: .bfloat16) == 2 * 3 * 64 * 2)
        #expect(try backend.kvCacheType(.auto) == .float32)
        #expect(
            throws: BackendError.unsupported(
                operation: "a KV cache of fp8 on the CPU", reason: "it has float32, bfloat16 and int8_per_token_head")
        ) { try backend.kvCacheType(.fp8) }
    }
}
