// The limits the operator chooses, validated once.
//
// Everything the scheduler sizes or refuses follows from these numbers. All violations are reported together.

/// In which order requests are served.
package enum SchedulingPolicy: String, Sendable, CaseIterable {
    /// First come, first served.
    case fcfs
    /// Lower `GenerationRequest.priority` first, then first come; who waits becomes more urgent.
    case priority
    /// The tenant that was served least first, then first come.
    case fair
}

/// Validated limits; the flags that set them keep vLLM's spelling.
package struct SchedulerLimits: Sendable, Equatable {
    /// Tokens per block: 8, 16, 32, 64 or 128.
    package let blockSize: Int
    /// Blocks in the pool.
    package let blockCount: Int
    /// Sequences that may run at once (`--max-num-seqs`).
    package let maxSequences: Int
    /// Tokens per step (`--max-num-batched-tokens`); at least `maxSequences`, so that every sequence gets its token.
    package let tokenBudget: Int
    /// Prompt and generated tokens of one request together (`--max-model-len`).
    package let maxModelLength: Int
    /// Whether full blocks are kept and found again (`--enable-prefix-caching`).
    package let enablePrefixCaching: Bool
    /// Order of service.
    package let policy: SchedulingPolicy
    /// Most tokens of one prompt per step; 0 is off (`--long-prefill-token-threshold`).
    package let longPrefillTokenThreshold: Int
    /// Position at which computing a prompt token costs twice what it costs at position 0, because attention then takes
    /// as long as the rest of the model; 0 is off. Prompt chunks shrink with it, so that deep steps take no longer.
    package let attentionScale: Int
    /// [0, 0.5] Share of the pool kept free when a sequence joins running ones, against preemption storms.
    package let watermark: Double
    /// What one step of priority is worth in waiting, so that nobody waits for ever; nil: whatever it takes.
    package let priorityAgeing: Duration?
    /// Times that a request may lose its blocks. After the last it goes first, and starts when all it can need fits.
    package let maxPreemptions: Int
    /// Guessing ahead.
    package let speculation: SpeculationLimits
    /// Positions that every layer of the model looks back on at most, a row's own included; nil where one sees all.
    package let slidingWindow: Int?
    /// The groups of layers of a model where some layers have a window and others do not; nil: all are one group.
    package let layerGroups: LayerGroups?

    /// What one step of priority is worth in waiting where nobody says otherwise.
    package static let usualPriorityAgeing = Duration.seconds(30)
    /// The block sizes that the kernels know.
    package static let blockSizes = [8, 16, 32, 64, 128]

    /// Throws: `SchedulingError.invalidLimits` with every violation.
    package init(
        blockSize: Int = 16, blockCount: Int, maxSequences: Int = 256, tokenBudget: Int = 2048, maxModelLength: Int,
        enablePrefixCaching: Bool = true, policy: SchedulingPolicy = .fcfs, longPrefillTokenThreshold: Int = 0,
        attentionScale: Int = 0, watermark: Double = 0.01, priorityAgeing: Duration? = usualPriorityAgeing,
        maxPreemptions: Int = 4, speculation: SpeculationLimits = .off, slidingWindow: Int? = nil,
        layerGroups: LayerGroups? = nil
    ) throws(SchedulingError) {
        var violations: [LimitViolation] = []
        func require(_ field: String, _ value: some CustomStringConvertible, _ holds: Bool, _ allowed: String) {
            if !holds { violations.append(LimitViolation(field: field, value: value.description, allowed: allowed)) }
        }
        let ceiling = Int(Int32.max)
        require("block-size", blockSize, Self.blockSizes.contains(blockSize), "one of 8, 16, 32, 64, 128")
        // Slots are numbered with 32 bits on the device.
        let slotLimit = ceiling / max(blockSize, 1)
        require("num-blocks", blockCount, (1...slotLimit).contains(blockCount), "1 to \(slotLimit)")
        require("max-num-seqs", maxSequences, (1...65536).contains(maxSequences), "1 to 65536")
        require(
            "max-num-batched-tokens", tokenBudget, tokenBudget >= maxSequences && tokenBudget <= ceiling,
            "max-num-seqs (\(maxSequences)) to \(ceiling)")
        require("max-model-len", maxModelLength, (2...ceiling).contains(maxModelLength), "2 to \(ceiling)")
        require(
            "long-prefill-token-threshold", longPrefillTokenThreshold,
            (0...ceiling).contains(longPrefillTokenThreshold), "0 (off) to \(ceiling)")
        require("attention-scale", attentionScale, (0...ceiling).contains(attentionScale), "0 (off) to \(ceiling)")
        require("watermark", watermark, (0...0.5).contains(watermark), "0 to 0.5")
        require(
            "priority-ageing", priorityAgeing?.description ?? "off",
            (.milliseconds(1) ... .seconds(86400)).contains(priorityAgeing ?? .seconds(1)), "1 ms to a day")
        require("max-preemptions", maxPreemptions, (1...ceiling).contains(maxPreemptions), "1 to \(ceiling)")
        let draftTokens = speculation.draftTokenCount
        require("num-speculative-tokens", draftTokens, (0...64).contains(draftTokens), "0 (off) to 64")
        let forcedTokens = speculation.forcedTokenCount
        require("jump-forward-tokens", forcedTokens, (0...64).contains(forcedTokens), "0 (off) to 64")
        let sizes = speculation.patternSizes
        require("prompt-lookup-min", sizes.lowerBound, sizes.lowerBound >= 1, "1 to prompt-lookup-max")
        require("prompt-lookup-max", sizes.upperBound, sizes.upperBound <= 16, "prompt-lookup-min to 16")
        require("sliding-window", slidingWindow ?? 1, (1...ceiling).contains(slidingWindow ?? 1), "1 to \(ceiling)")
        let window = layerGroups?.window ?? 1
        require("sliding-window", window, (1...ceiling).contains(window), "1 to \(ceiling)")
        let groups = layerGroups?.windowedCount ?? 1
        require("windowed layer groups", groups, (1...Self.mostWindowedGroups).contains(groups), "1 to 64")
        require("sliding-window", window, layerGroups == nil || slidingWindow == nil, "that of some layers or of all")
        if !violations.isEmpty { throw .invalidLimits(violations) }

        self.blockSize = blockSize
        self.blockCount = blockCount
        self.maxSequences = maxSequences
        self.tokenBudget = tokenBudget
        self.maxModelLength = maxModelLength
        self.enablePrefixCaching = enablePrefixCaching
        self.policy = policy
        self.longPrefillTokenThreshold = longPrefillTokenThreshold
        self.attentionScale = attentionScale
        self.watermark = watermark
        self.priorityAgeing = priorityAgeing
        self.maxPreemptions = maxPreemptions
        self.speculation = speculation
        self.slidingWindow = slidingWindow
        self.layerGroups = layerGroups
    }

    private static let mostWindowedGroups = 64

    /// Blocks kept free when a sequence joins running ones.
    var watermarkBlocks: Int {
        // Rounded up by hand: `rounded(.up)` would need the C mathematics library.
        let exact = Double(blockCount) * watermark
        let whole = Int(exact)
        return Double(whole) < exact ? whole + 1 : whole
    }

    /// Blocks that hold `tokenCount` tokens.
    package func blocks(forTokens tokenCount: Int) -> Int { (tokenCount + blockSize - 1) / blockSize }

    /// Blocks that all groups of layers hold at most for a sequence on its way to `tokenCount` tokens.
    package func blocksOfAllGroups(forTokens tokenCount: Int) -> Int {
        let entries = blocks(forTokens: tokenCount)
        return layerGroups?.blocks(forEntries: entries, chunk: tokenBudget, blockSize: blockSize) ?? entries
    }
}

extension SchedulingPolicy {
    /// The order of service of a request that arrives `now`; in milliseconds of waiting where `ageing` says what one
    /// step of priority is worth. With ageing, how long somebody has waited is worth as much as a better priority; two
    /// requests never change places, so this is known on arrival.
    package func urgency(priority: Int, now: Duration, ageing: Duration?) -> Int {
        guard self == .priority else { return 0 }
        // Far beyond what anybody can wait for; the product stays within 64 bits.
        let priority = max(-1_000_000, min(priority, 1_000_000))
        guard let ageing else { return priority }
        return priority * ageing.milliseconds + now.milliseconds
    }
}

extension Duration {
    fileprivate var milliseconds: Int {
        let (seconds, attoseconds) = components
        return Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)
    }
}
