// How the KV cache is sized, and what is refused with which numbers.

import Execution
import Testing

@Suite struct MemoryPlanTests {
    private func plan(
        available: Int = 16 << 30, weights: Int = 1 << 30, context: Int = 8192, bytesPerToken: Int = 23_040,
        _ configure: (inout EngineConfiguration) -> Void = { _ in }
    ) throws(EngineError) -> MemoryPlan {
        var configuration = EngineConfiguration(availableMemoryBytes: available, cacheKey: (1, 2))
        configure(&configuration)
        return try MemoryPlan(
            configuration: configuration,
            model: .init(
                contextLength: context, weightBytes: weights, activationBytes: 1 << 20,
                kvBytesPerToken: bytesPerToken))
    }

    @Test func `a small model gets 320 MiB of cache, a large one one sequence`() throws {
        let small = try plan()
        #expect(small.cacheBytes <= 320 << 20)
        #expect(small.cacheBytes > (320 << 20) - 16 * 23_040)
        let large = try plan(available: 256 << 30, bytesPerToken: 131_072)
        #expect(large.concurrency(length: 8192) == 1)
    }

    @Test func `the cache comes out of what the weights leave`() throws {
        let tight = try plan(available: 8 << 30, weights: 7 << 30)
        #expect(tight.cacheBytes <= (1 << 30) / 4)
    }

    @Test func `what was asked for in bytes or in blocks is taken`() throws {
        #expect(try plan { $0.kvCacheMemoryBytes = 512 << 20 }.blockCount == (512 << 20) / (16 * 23_040))
        #expect(try plan { $0.blockCountOverride = 777 }.blockCount == 777)
    }

    @Test func `lengths beyond the model and caches beyond the address space are refused`() {
        #expect(throws: EngineError.self) { try plan { $0.maxModelLength = 8193 } }
        #expect(throws: EngineError.self) { try plan { $0.maxModelLength = 0 } }
        #expect(throws: EngineError.self) { try plan { $0.blockCountOverride = .max } }
        #expect(throws: EngineError.self) { try plan(bytesPerToken: .max / 2) }
        do {
            _ = try plan { $0.blockCountOverride = 511 }
            Issue.record("511 blocks of 16 tokens took a sequence of 8192")
        } catch {
            #expect(
                error.description
                    == "One request of max-model-len 8192 tokens needs 512 KV blocks (188743680 bytes), but the cache "
                    + "has 511 (188375040 bytes). Raise --kv-cache-memory-bytes, or lower --max-model-len to 8176 or "
                    + "less.")
        }
    }
}
