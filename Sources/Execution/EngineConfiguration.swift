// What an operator decides about the engine, and what the engine resolved it to.

import Models
import Scheduling
import Tensors

/// The engine's limits, as configured. Optional values are resolved once, at start-up, by `MemoryPlan`.
package struct EngineConfiguration: Sendable {
    /// Tokens per KV block: 8, 16, 32, 64 or 128.
    package var blockSize = 16
    /// Longest sequence, prompt and output together; nil takes the model's context length.
    package var maxModelLength: Int?
    /// Sequences that may run in one step.
    package var maxSequences = 64
    /// Tokens computed in one step, over all sequences.
    package var tokenBudget = 96
    package var enablePrefixCaching = true
    package var policy = SchedulingPolicy.fcfs
    /// Most tokens of one prompt in one step while others wait; 0 is off.
    package var longPrefillTokenThreshold = 0
    /// Guessing ahead from what stands in the sequence; the text is the same, the number of steps is not.
    package var speculation = SpeculationLimits.off
    /// Bytes for keys and values; nil lets `MemoryPlan` choose from `availableMemoryBytes`.
    package var kvCacheMemoryBytes: Int?
    /// What keys and values are kept as.
    package var kvCacheType = KVCacheType.auto
    /// Exact number of KV blocks; overrides every other way of sizing the cache.
    package var blockCountOverride: Int?
    /// Memory the process may still take, measured by the caller at start-up.
    package var availableMemoryBytes: Int
    /// Requests that may wait before new ones are refused.
    package var maxQueuedRequests = 1024
    /// Prompt tokens that may wait for their prefill before new requests are refused.
    package var maxQueuedTokens = 1 << 20
    /// The part of the queue that one tenant may fill while others are about; 1 lets it have all.
    package var tenantQueueShare = 0.5
    /// Requests are refused whose first token would probably come later than this; nil refuses none for that.
    package var timeToFirstTokenTarget: Duration?
    /// What the spread of `Retry-After` is drawn from.
    package var retrySeed: UInt64 = 0
    /// Buckets of the latencies that are counted.
    package var latencyBuckets = LatencyBuckets()
    /// Adapters to make room for; nil for none.
    package var adapters: AdapterLimits?
    /// Process secret that keys the prefix cache's hashes, so that no client can construct a collision.
    package var cacheKey: (UInt64, UInt64)

    package init(availableMemoryBytes: Int, cacheKey: (UInt64, UInt64)) {
        self.availableMemoryBytes = availableMemoryBytes
        self.cacheKey = cacheKey
    }
}

/// What the engine is, fixed once it is ready: for validation, reports and `/v1/models`.
package struct EngineInformation: Sendable {
    /// One line: device, instruction set, threads.
    package let backendSummary: String
    package let architecture: String
    package let vocabularyCount: Int
    /// Features of a token's state.
    package let hiddenSize: Int
    /// Longest sequence accepted, prompt and output together.
    package let maxModelLength: Int
    package let maxSequences: Int
    package let tokenBudget: Int
    package let maxQueuedRequests: Int
    package let enablePrefixCaching: Bool
    package let policy: SchedulingPolicy
    package let memory: MemoryPlan
    /// What adapters must fit; nil where there is no room for any.
    package let adapters: AdapterLayout?
    /// What keys and values are kept as, in the setting's word; never `auto`.
    package let kvCacheType: String
    /// Time from the engine's start to each milestone, in order.
    package let startupPhases: [StartupPhase]

    /// Tokens per KV block.
    package var blockSize: Int { memory.blockSize }
    package var blockCount: Int { memory.blockCount }
}

/// One step of starting up and how long it took.
package struct StartupPhase: Sendable {
    package let name: String
    package let duration: Duration
}
