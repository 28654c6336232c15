// One step, as the policy hands it to the device: which tokens of which sequences, and where their cache lives.
//
// The arrays are flat and the sequences hold ranges into them, so the runner copies instead of walking. The output is
// not copyable and `Scheduler.complete` consumes it: completing a step twice does not compile.

/// The share of one sequence in a step.
package struct ScheduledSequence: Sendable {
    /// Whose tokens these are.
    package let id: RequestID
    /// [0, maxSequences) A row that stays the same while the sequence runs and belongs to nobody else meanwhile.
    package let slot: Int
    /// Position in the sequence of the first token of this step; everything before it is in the cache already.
    package let start: Int
    /// [queryLength] Range of `SchedulerOutput.tokens`, at positions start, start + 1, ...
    package let tokenRange: Range<Int>
    /// [ceil((start + queryLength) / blockSize)] Range of `SchedulerOutput.blocks`: the whole table, oldest first.
    /// Where the model has a window, entries wholly behind that of `start` may name blocks of others.
    package let blockRange: Range<Int>
    /// [entries, windowed groups] Range of `SchedulerOutput.blocks`: what the groups of layers with a window hold, for
    /// the tokens from entry `firstWindowedEntry` of the table on. Empty where all layers are one group.
    package let windowedRange: Range<Int>
    /// Entries of the table that windowed groups have no more.
    package let firstWindowedEntry: Int
    /// The step reaches the last known token: the runner samples the next one.
    package let samples: Bool
    /// Guessed tokens at the end of `tokenRange`. The runner samples after the last known token and after each guess.
    package let draftCount: Int
    /// How to sample.
    package let sampling: SamplingParameters
    /// What the request's rules do to the logits that are sampled; nil for most.
    package let logitChange: LogitChange?
    /// [scored tokens] Range of `SchedulerOutput.scoredTokens`: the prompt tokens that follow the first positions of
    /// `scoredStart`, `scoredStart` + 1, …, whose log-probabilities are wanted.
    package let scoredRange: Range<Int>
    /// Position whose logits score the first of them.
    package let scoredStart: Int
    /// Alternatives to report with each.
    package let promptLogprobCount: Int
    /// Rows of the step whose states make up a vector: the last ones of `tokenRange`. Empty for most.
    package let pooledRows: Range<Int>
    /// How they make it up; nil where tokens are generated.
    package let pooling: Pooling?
    /// The place of its adapter on the device; −1 for none.
    package let adapterPlace: Int32

    /// Tokens after this step, and so the length the attention sees.
    @inlinable package var contextLength: Int { start + tokenRange.count }
    /// Position of the first token to be sampled, which is the counter of its draw; the others follow it.
    @inlinable package var samplePosition: Int { contextLength - draftCount }
    /// Samples that the runner takes, from the last rows of the sequence.
    @inlinable package var sampleCount: Int { samples ? 1 + draftCount : 0 }

    /// Gathers the fields; outside tests only the scheduler makes one.
    package init(
        id: RequestID, slot: Int, start: Int, tokenRange: Range<Int>, blockRange: Range<Int>,
        windowedRange: Range<Int> = 0..<0, firstWindowedEntry: Int = 0, samples: Bool, sampling: SamplingParameters,
        logitChange: LogitChange? = nil, scoredRange: Range<Int> = 0..<0, scoredStart: Int = 0,
        promptLogprobCount: Int = 0, draftCount: Int = 0, pooledRows: Range<Int> = 0..<0, pooling: Pooling? = nil,
        adapterPlace: Int32 = -1
    ) {
        self.id = id
        self.slot = slot
        self.start = start
        self.tokenRange = tokenRange
        self.blockRange = blockRange
        self.windowedRange = windowedRange
        self.firstWindowedEntry = firstWindowedEntry
        self.samples = samples
        self.sampling = sampling
        self.logitChange = logitChange
        self.scoredRange = scoredRange
        self.scoredStart = scoredStart
        self.promptLogprobCount = promptLogprobCount
        self.draftCount = draftCount
        self.pooledRows = pooledRows
        self.pooling = pooling
        self.adapterPlace = adapterPlace
    }
}

/// One step of work, made by `Scheduler.schedule` and consumed by `Scheduler.complete`.
package struct SchedulerOutput: ~Copyable, Sendable {
    /// 0 for the first step; one more for each.
    package let stepIndex: Int
    /// [sequences] Sequences that extend by one token first, then the prefills; `tokenRange`s in rising order.
    package internal(set) var sequences: [ScheduledSequence]
    /// [tokens] The tokens to compute, at most `tokenBudget` of them. −1 − r stands for what row r of the step
    /// before sampled, which is still in flight; rows that score a prompt are counted too.
    package internal(set) var tokens: [TokenID]
    /// [scored tokens] Prompt tokens whose log-probabilities the runner reports besides the samples.
    package internal(set) var scoredTokens: [TokenID] = []
    /// Blocks given out for this step that held something that is not a number: the runner clears them before it
    /// begins, because a mask multiplies what it hides by 0.
    package internal(set) var scrubbedBlocks: [BlockID] = []
    /// [total of the tables] Block tables, one after another; each sequence's windowed groups behind its first.
    package internal(set) var blocks: [BlockID]
    /// Running sequences that had to give up their blocks and wait again, as soon as no step in flight writes them.
    package internal(set) var preempted: [RequestID]

    /// Nothing to compute: skip the device, but still complete the step.
    package var isEmpty: Bool { sequences.isEmpty }
    /// Tokens in this step.
    package var tokenCount: Int { tokens.count }
    /// Samples that the runner takes, and so the count `complete` expects.
    package var sampleCount: Int { sequences.reduce(0) { $0 + $1.sampleCount } }

    /// Gathers the fields; outside tests only the scheduler makes one.
    package init(
        stepIndex: Int, sequences: [ScheduledSequence] = [], tokens: [TokenID] = [], blocks: [BlockID] = [],
        preempted: [RequestID] = []
    ) {
        self.stepIndex = stepIndex
        self.sequences = sequences
        self.tokens = tokens
        self.blocks = blocks
        self.preempted = preempted
    }

    /// The same step, for ranks that compute a part of it: nobody completes it.
    package borrowing func forOtherRanks() -> SchedulerOutput {
        var copy = SchedulerOutput(
            stepIndex: stepIndex, sequences: sequences, tokens: tokens, blocks: blocks, preempted: preempted)
        copy.scoredTokens = scoredTokens
        copy.scrubbedBlocks = scrubbedBlocks
        return copy
    }
}
