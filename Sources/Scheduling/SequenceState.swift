// One sequence inside the scheduler.
//
// There is no prefill phase and no decode phase: a sequence has known tokens (prompt and generated) and computed
// tokens (those whose keys and values are in the cache), and steps hand out tokens until computed catches up. While a
// step is in flight its tokens count as reached, and a token that it samples counts as there although nobody knows it.

/// A request on its way through the scheduler. A class, because it is found by id, by row and by queue.
final class SequenceState {
    /// Whether the sequence waits, holds a row, must wait again as soon as no step writes its blocks, or has ended.
    enum Stage { case waiting, running, leaving, finished }

    let id: RequestID
    private(set) var order: ServiceOrder
    let tenant: UInt64
    let promptTokenCount: Int
    /// Known tokens at which generation ends.
    let lengthLimit: Int
    let stopTokens: [TokenID]
    let sampling: SamplingParameters
    let salt: UInt64
    let adapter: AdapterReference?
    let deadline: Duration?
    let repetition: RepetitionDetection?
    let promptLogprobCount: Int?
    let pooling: Pooling?
    let isConstrained: Bool

    var stage = Stage.waiting
    /// [known] Prompt, then generated.
    var tokens: [TokenID]
    /// Counts of them; nil without penalties.
    var history: TokenHistory?
    /// Prompt tokens whose log-probabilities were reported or are being computed; the first has none.
    var scoredTokenCount = 1
    /// Prompt tokens whose states were pooled or are being computed.
    var pooledTokenCount = 0
    /// Tokens whose keys and values are in the cache.
    var computedTokenCount = 0
    /// Tokens that the steps in flight compute.
    var inFlightTokenCount = 0
    /// Tokens that the steps in flight sample.
    var pendingTokenCount = 0
    /// Row of the last of those among the rows of logits of its step.
    var pendingRow = 0
    /// Tokens of the step being planned, drafts included.
    var scheduledTokenCount = 0
    /// The step in which it last left its token to a prompt.
    var satOutStep = -2
    /// [draft tokens] Guesses at what follows the last known token, in the step being planned or in flight.
    var drafts: [TokenID] = []
    /// Whether they are from `forced`.
    var draftsAreForced = false
    /// [forced tokens] What its constraint says must follow the known tokens, as far as anybody has asked.
    var forced: [TokenID] = []
    /// Most of them that are computed in one step.
    let forcedLimit: Int
    /// How much to guess.
    var draftControl: DraftControl
    /// Blocks held; empty while waiting.
    var table = BlockTable()
    /// Those of windowed groups of layers, where the model has others too.
    var windowedTable: BlockTable
    /// Row in the runner's batch while running.
    var slot = -1

    /// [full blocks] Keys as far as they were needed; preemption keeps them.
    var keys: [BlockKey] = []
    /// Leading blocks of the table that are published, or equal to published ones.
    var publishedBlockCount = 0
    /// Publication of the last of those.
    var lastPublication: UInt64 = 0
    /// Its blocks hold something that is not a number, or nobody knows what: nothing of them may be found.
    var isTainted = false
    /// A finite sample has said that what its blocks hold can be trusted, since it last got a row.
    var isProven = false

    var cachedTokenCount = 0
    /// Prompt tokens that its tenant was charged for, or that were found in the cache; computing them again is free.
    var chargedTokenCount = 0
    var preemptionCount = 0
    var firstScheduled: Duration?

    init(
        _ request: consuming GenerationRequest, order: ServiceOrder, lengthLimit: Int, salt: UInt64,
        speculation: SpeculationLimits, windowedGroupCount: Int = 0
    ) {
        id = request.id
        self.order = order
        tenant = request.tenant
        promptTokenCount = request.prompt.count
        self.lengthLimit = lengthLimit
        stopTokens = request.stopTokens
        sampling = request.sampling
        self.salt = salt
        adapter = request.adapter
        deadline = request.deadline
        repetition = request.repetition
        promptLogprobCount = request.promptLogprobCount
        pooling = request.pooling
        isConstrained = request.constraint != nil
        // What the rules say depends on the tokens before, which a draft only guesses.
        let mayGuess = sampling.rules == nil
        draftControl = DraftControl(most: mayGuess && !isConstrained ? speculation.draftTokenCount : 0)
        forcedLimit = mayGuess ? speculation.forcedTokenCount : 0
        windowedTable = BlockTable(width: max(1, windowedGroupCount))
        tokens = request.prompt
        if sampling.rules?.hasPenalties == true { history = TokenHistory(tokens, promptTokenCount: tokens.count) }
    }

    /// Tokens known now or once the steps in flight complete.
    var expectedTokenCount: Int { tokens.count + pendingTokenCount }
    /// Tokens computed now or once the steps in flight complete; the next step goes on from here.
    var reachedTokenCount: Int { computedTokenCount + inFlightTokenCount }
    /// Those of the expected tokens that may have to be computed: the last one is only reported.
    var wantedTokenCount: Int { min(expectedTokenCount, lengthLimit - 1) }
    /// Tokens left to hand out; at least 1 while the sequence lives and no step in flight may end it.
    var remainingTokenCount: Int { wantedTokenCount - reachedTokenCount }
    /// Tokens generated so far.
    var generatedTokenCount: Int { tokens.count - promptTokenCount }
    /// Whether nothing can be planned before the step in flight says what it sampled.
    var awaitsToken: Bool { pendingTokenCount > 0 && (isConstrained || sampling.rules?.needsLastToken == true) }
    /// Whether prompt tokens remain whose log-probabilities are wanted.
    var hasUnscoredTokens: Bool { promptLogprobCount != nil && scoredTokenCount < promptTokenCount }
    /// Whether the rules ban, after the known tokens, all that they allow. Without an allow-list the limits on requests
    /// always leave something.
    var allowsNothing: Bool {
        guard let rules = sampling.rules, let allowed = rules.allowedTokens else { return false }
        let bans = rules.bans(
            after: tokens, promptTokenCount: promptTokenCount, generatedTokenCount: generatedTokenCount)
        return allowed.allSatisfy(bans.contains)
    }
    /// What the rules say about the token that follows the expected ones; nil where they say nothing.
    var logitChange: LogitChange? {
        guard let rules = sampling.rules else { return nil }
        let bans = rules.bans(
            after: tokens, promptTokenCount: promptTokenCount,
            generatedTokenCount: expectedTokenCount - promptTokenCount)
        if let history { return LogitChange(rules: rules, bans: bans, counts: history.counts) }
        if bans.isEmpty, rules.biases.isEmpty, rules.allowedTokens == nil { return nil }
        return LogitChange(rules: rules, bans: bans)
    }
    /// Guesses that it may make when its next token is planned.
    var wantedDraftCount: Int {
        let isPaused = draftControl.isPaused(generatedTokenCount: generatedTokenCount)
        if draftControl.length == 0 || isPaused { return 0 }
        return min(draftControl.length, lengthLimit - 1 - tokens.count)
    }
    /// Forced tokens that it may try at once. How good a guess they are is for its constraint to know.
    var wantedForcedCount: Int { max(0, min(forcedLimit, lengthLimit - 1 - tokens.count)) }
    /// Whether it lost its blocks so often that it gets all it can ever need before it starts again.
    var isProtected: Bool { order.urgency == ServiceOrder.protected }
    /// Whether a step in flight writes its blocks.
    var isInFlight: Bool { inFlightTokenCount > 0 }

    /// Sends it to the head of the queue for good.
    func protect() { order.urgency = ServiceOrder.protected }

    var usage: RequestUsage {
        RequestUsage(
            promptTokens: promptTokenCount, generatedTokens: generatedTokenCount, cachedTokens: cachedTokenCount,
            preemptions: preemptionCount, firstScheduled: firstScheduled)
    }

    /// Computes the keys of the first `count` blocks, which must be known in full.
    func extendKeys(to count: Int, blockSize: Int, hasher: BlockHasher) {
        while keys.count < count {
            keys.append(
                hasher.key(
                    salt: salt, adapter: adapterNumber, parent: keys.last ?? .root, tokens: tokens,
                    start: keys.count * blockSize,
                    blockSize: blockSize))
        }
    }

    /// What block `index` holds when the block before it was published as `parent`.
    func contents(ofBlock index: Int, parent: UInt64, blockSize: Int) -> BlockContents {
        BlockContents(
            key: keys[index], salt: salt, adapter: adapterNumber, parent: parent, tokens: tokens,
            start: index * blockSize)
    }

    /// What tells its blocks from those of other adapters.
    private var adapterNumber: UInt64 { adapter?.id.rawValue ?? 0 }
}
