// How the KV cache is sized, and what is refused with which numbers.

import Execution
import Scheduling
import Testing

@Suite struct MemoryPlanTests {
    private func plan(
        available: Int = 16 << 30, weights: Int = 1 << 30, context: Int = 8192, bytesPerToken: Int = 23_040,
        layout: CacheLayout = CacheLayout(layerCount: 1), _ configure: (inout EngineConfiguration) -> Void = { _ in }
    ) throws(EngineError) -> MemoryPlan {
        var configuration = EngineConfiguration(availableMemoryBytes: available, cacheKey: (1, 2))
        configure(&configuration)
        return try MemoryPlan(
            configuration: configuration,
            model: .init(
                contextLength: context, weightBytes: weights, activationBytes: 1 << 20,
                kvBytesPerToken: bytesPerToken, layout: layout))
    }

    @Test func `a small model gets 320 MiB of cache, a large one one sequence`() throws {
        let small = try plan()
        #expect(small.cacheBytes <= 320 << 20)
        #expect(small.cacheBytes > (320 << 20) - 16 * 23_040)
        let large = try plan(available: 256 << 30, bytesPerToken: 131_072)
        #expect(large.concurrency(length: 8192) == 1)
    }

    @Test func `windowed layers beside others cost a long sequence their window only`() throws {
        // As Gemma 3 270M: 15 of 18 layers look back on 512 tokens; 1 KiB a token and layer.
        let gemma = CacheLayout(
            layerCount: 18, windowedLayers: Set((0..<18).filter { $0 % 6 != 5 }), window: 512)
        let plan = try plan(context: 32768, bytesPerToken: 18 << 10, layout: gemma) { $0.blockCountOverride = 8192 }
        #expect(plan.layerGroups == LayerGroups(windowedCount: 5, window: 512))
        #expect(plan.blockBytes == 16 * 3 << 10 && plan.keptBytesPerToken == 3 << 10)
        #expect(plan.cacheBytes == 8192 * 48 << 10)
        // 4096 tokens are 256 blocks, and 33 for each of five groups instead of 256.
        #expect(plan.concurrency(length: 4096) == 8192.0 / 421)
        #expect(plan.blockContents == "16 tokens in 3 of 18 layers")
        // Within the window nothing is saved, and nothing lost.
        #expect(plan.concurrency(length: 512) == 8192.0 / 192)
    }

    @Test func `layers have one table where windows save nothing`() throws {
        func groups(_ windowed: Set<Int>, window: Int, length: Int = 8192) -> LayerGroups? {
            CacheLayout(layerCount: 6, windowedLayers: windowed, window: window).groups(length: length, blockSize: 16)
        }
        #expect(groups([0, 2, 4], window: 4096) == LayerGroups(windowedCount: 1, window: 4096))
        #expect(groups([0, 1, 2, 3], window: 4096) == LayerGroups(windowedCount: 2, window: 4096))
        #expect(groups([0, 1, 2, 3, 4, 5], window: 4096) == nil)
        #expect(groups([], window: 4096) == nil)
        #expect(groups([0, 2], window: 16) == nil)
        #expect(groups([0, 2, 4], window: 4096, length: 4096) == nil)
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
