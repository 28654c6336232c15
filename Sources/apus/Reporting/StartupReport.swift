// What an operator reads when the server is ready: where the memory went, how much fits, which limits are in force
// and why. One block for people, one JSON line for machines, both from this value.

import Execution
import Scheduling

/// The facts of a start, in the order they are told.
package struct StartupReport: Sendable {
    package var version: String
    /// Name or path of the model, and the names clients use.
    package var model: String
    package var servedModelNames: [String]
    package var architecture: String
    package var parameterCount: Int
    /// Element types of the checkpoint with the bytes each holds, largest first.
    package var storedTypes: [(name: String, bytes: Int)]
    /// Device, instruction set, threads.
    package var device: String
    package var dtype: String
    package var memory: MemoryPlan
    /// What keys and values are kept as.
    package var kvCacheType: String
    /// Memory the process could take when it began.
    package var availableMemoryBytes: Int
    /// The model's own limit, of which `memory.maxModelLength` is in force.
    package var contextLength: Int
    package var maxSequences: Int
    package var tokenBudget: Int
    package var maxQueuedRequests: Int
    package var maxQueuedTokens: Int
    package var policy: SchedulingPolicy
    package var enablePrefixCaching: Bool
    /// Where the server listens, such as http://127.0.0.1:8000.
    package var address: String
    package var isReachableByOthers: Bool
    /// API keys of which clients must have one; 0 is none needed.
    package var keyCount: Int
    /// Each phase and how long it took.
    package var phases: [(name: String, duration: Duration)]
    /// Settings that were given, with their origin: `max-num-seqs=32 (apus.yaml:2)`.
    package var given: [String]

    package init(
        version: String, model: String, servedModelNames: [String], architecture: String, parameterCount: Int,
        storedTypes: [(name: String, bytes: Int)], device: String, dtype: String, memory: MemoryPlan,
        kvCacheType: String, availableMemoryBytes: Int, contextLength: Int, maxSequences: Int, tokenBudget: Int,
        maxQueuedRequests: Int, maxQueuedTokens: Int, policy: SchedulingPolicy, enablePrefixCaching: Bool,
        address: String, isReachableByOthers: Bool, keyCount: Int, phases: [(name: String, duration: Duration)],
        given: [String]
    ) {
        self.version = version
        self.model = model
        self.servedModelNames = servedModelNames
        self.architecture = architecture
        self.parameterCount = parameterCount
        self.storedTypes = storedTypes
        self.device = device
        self.dtype = dtype
        self.memory = memory
        self.kvCacheType = kvCacheType
        self.availableMemoryBytes = availableMemoryBytes
        self.contextLength = contextLength
        self.maxSequences = maxSequences
        self.tokenBudget = tokenBudget
        self.maxQueuedRequests = maxQueuedRequests
        self.maxQueuedTokens = maxQueuedTokens
        self.policy = policy
        self.enablePrefixCaching = enablePrefixCaching
        self.address = address
        self.isReachableByOthers = isReachableByOthers
        self.keyCount = keyCount
        self.phases = phases
        self.given = given
    }

    /// The line that sizing guides tell operators to read.
    package var cacheLine: String { Self.cacheLine(memory) }

    package static func cacheLine(_ memory: MemoryPlan) -> String {
        "KV cache size: \(memory.cacheTokenCount) tokens, maximum concurrency for \(memory.maxModelLength) tokens per "
            + "request: \(Decimals.format(memory.concurrency(length: memory.maxModelLength), places: 2))x"
    }
}

// MARK: For people

extension StartupReport {
    /// The block, one fact a line.
    package var text: String {
        let stored = storedTypes.map { "\($0.name) \(ByteCount.approximate($0.bytes))" }.joined(separator: ", ")
        let source = memory.maxModelLength == contextLength ? "all the model has" : "the model has \(contextLength)"
        let facts: [(String, String)] = [
            ("model", "\(model) (\(architecture), \(Self.millions(parameterCount)) parameters: \(stored))"),
            ("served as", servedModelNames.joined(separator: ", ")),
            ("device", "\(device), dtype \(dtype)"),
            ("memory", memoryLine),
            ("context", "\(memory.maxModelLength) tokens; \(source)"),
            ("blocks", blockLine),
            ("step", "\(maxSequences) sequences, \(tokenBudget) tokens; \(policy.rawValue), chunked prefill"),
            ("prefix cache", enablePrefixCaching ? "on" : "off"),
            ("queue", "\(maxQueuedRequests) requests, \(maxQueuedTokens) prompt tokens"),
            ("given", given.isEmpty ? "nothing; all defaults" : given.joined(separator: ", ")),
            ("access", accessLine),
            ("start", startLine),
        ]
        let lines = facts.map { "  \($0.0.padded(to: 12))  \($0.1)" }
        return (["Apus \(version)"] + lines + [cacheLine] + advice.map { "Advice: \($0)" } + ["Serving on \(address)"])
            .joined(separator: "\n")
    }

    private var memoryLine: String {
        "weights \(ByteCount.approximate(memory.weightBytes)), "
            + "activations \(ByteCount.approximate(memory.activationBytes)), "
            + (memory.adapterBytes > 0 ? "adapters \(ByteCount.approximate(memory.adapterBytes)), " : "")
            + "KV cache \(ByteCount.approximate(memory.cacheBytes)); "
            + "\(ByteCount.approximate(availableMemoryBytes)) was available"
    }

    private var accessLine: String {
        let reach = isReachableByOthers ? "every machine that can reach it" : "this machine only"
        switch keyCount {
        case 0: return isReachableByOthers ? "no API key: open to everyone who can reach it" : reach
        case 1: return "an API key is needed; \(reach)"
        default: return "one of \(keyCount) API keys is needed; \(reach)"
        }
    }

    private var blockLine: String {
        let perToken =
            "\(memory.blockCount) of \(memory.blockContents); "
            + "\(ByteCount.approximate(memory.kvBytesPerToken)) a token, \(kvCacheType)"
        guard let groups = memory.layerGroups else { return perToken }
        return perToken + ", \(ByteCount.approximate(memory.keptBytesPerToken)) behind the window of \(groups.window)"
    }

    private var startLine: String {
        let total = phases.reduce(Duration.zero) { $0 + $1.duration }
        let parts = phases.map { "\($0.name) \(Decimals.format($0.duration.seconds, places: 2)) s" }
        return "\(Decimals.format(total.seconds, places: 2)) s (\(parts.joined(separator: ", ")))"
    }

    /// What would help most, when something is tight.
    package var advice: [String] {
        var advice: [String] = []
        let concurrency = memory.concurrency(length: memory.maxModelLength)
        if concurrency < 2 {
            advice.append(
                "the KV cache holds \(Decimals.format(concurrency, places: 1)) requests of full length; "
                    + "lower max-model-len to \(memory.cacheTokenCount / 4) or raise kv-cache-memory-bytes.")
        }
        if memory.cacheTokenCount < maxSequences * memory.blockSize {
            advice.append(
                "max-num-seqs is \(maxSequences), but the KV cache has \(memory.blockCount) blocks; "
                    + "lower it, or raise kv-cache-memory-bytes.")
        }
        let total = memory.weightBytes + memory.activationBytes + memory.adapterBytes + memory.cacheBytes
        if total > availableMemoryBytes {
            advice.append(
                "weights, activations and KV cache come to \(ByteCount.approximate(total)), more than was available; "
                    + "lower kv-cache-memory-bytes.")
        }
        return advice
    }

    private static func millions(_ count: Int) -> String {
        count >= 1_000_000_000
            ? Decimals.format(Double(count) / 1e9, places: 2) + " B"
            : Decimals.format(Double(count) / 1e6, places: 1) + " M"
    }
}

// MARK: For machines

extension StartupReport {
    /// The same facts with stable names and plain units.
    package var json: JSONText {
        .object([
            ("version", .string(version)), ("model", .string(model)),
            ("served_model_names", .array(servedModelNames.map { .string($0) })),
            ("architecture", .string(architecture)), ("parameters", .integer(parameterCount)),
            ("stored_bytes", .object(storedTypes.map { ($0.name, .integer($0.bytes)) })),
            ("device", .string(device)), ("dtype", .string(dtype)),
            ("weight_bytes", .integer(memory.weightBytes)), ("activation_bytes", .integer(memory.activationBytes)),
            ("adapter_bytes", .integer(memory.adapterBytes)),
            ("kv_cache_bytes", .integer(memory.cacheBytes)), ("kv_cache_tokens", .integer(memory.cacheTokenCount)),
            ("kv_bytes_per_token", .integer(memory.kvBytesPerToken)),
            ("kv_bytes_per_token_kept", .integer(memory.keptBytesPerToken)), ("kv_cache_dtype", .string(kvCacheType)),
            ("block_size", .integer(memory.blockSize)),
            ("block_count", .integer(memory.blockCount)), ("available_memory_bytes", .integer(availableMemoryBytes)),
            ("max_model_len", .integer(memory.maxModelLength)), ("context_length", .integer(contextLength)),
            (
                "max_concurrency_full_length",
                .decimal(memory.concurrency(length: memory.maxModelLength), places: 2)
            ),
            (
                "max_concurrency_2048",
                .decimal(memory.concurrency(length: min(2048, memory.maxModelLength)), places: 2)
            ),
            ("max_num_seqs", .integer(maxSequences)), ("max_num_batched_tokens", .integer(tokenBudget)),
            ("max_num_queued_reqs", .integer(maxQueuedRequests)),
            ("max_num_queued_tokens", .integer(maxQueuedTokens)), ("scheduling_policy", .string(policy.rawValue)),
            ("enable_prefix_caching", .boolean(enablePrefixCaching)), ("address", .string(address)),
            ("authenticated", .boolean(keyCount > 0)),
            ("startup_seconds", .object(phases.map { ($0.name, .decimal($0.duration.seconds, places: 3)) })),
            ("given", .array(given.map { .string($0) })), ("advice", .array(advice.map { .string($0) })),
        ])
    }
}
