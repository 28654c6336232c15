// What crosses into the engine: token ids and limits, no text.
//
// A value, so that it can be sent between threads; the scheduler consumes it and keeps its own SequenceState.

/// One sequence to generate.
package struct GenerationRequest: Sendable {
    /// The server's name for it, never used before.
    package let id: RequestID
    /// [promptTokens] The rendered, tokenized prompt; at least one token.
    package let prompt: [TokenID]
    /// At least 1. Generation also ends when prompt and generated tokens reach `maxModelLength`.
    package let maxNewTokens: Int
    /// Tokens that end the sequence (the model's end tokens); empty under `ignore_eos`.
    package let stopTokens: [TokenID]
    /// Carried to the sampler untouched.
    package let sampling: SamplingParameters
    /// Lower goes first; only looked at under `SchedulingPolicy.priority`.
    package let priority: Int
    /// When it arrived, since the engine started.
    package let arrival: Duration
    /// Requests share cached prefixes only within one salt; 0 is the shared cache.
    package let cacheSalt: UInt64
    /// Who asks: requests of one tenant share what `SchedulingPolicy.fair` gives it. Not a name, but a number for it.
    package let tenant: UInt64
    /// When to give up, since the engine started; nil is never.
    package let deadline: Duration?
    /// Ends the sequence when it repeats itself; nil does not look.
    package let repetition: RepetitionDetection?
    /// nil: the prompt is only read; k: the log-probability of each of its tokens and of the k most likely in its place
    /// is reported. Such a prompt takes nothing from the prefix cache, because what is found there was never computed.
    package let promptLogprobCount: Int?
    /// nil: tokens are generated; otherwise the prompt is only read, and what the model makes of it is reduced to one
    /// vector. `maxNewTokens` is 1 then, and the prompt may fill the whole context.
    package let pooling: Pooling?
    /// Which tokens may come next, decided anew after each; nil is any.
    package let constraint: (any TokenConstraint)?
    /// What its tokens are computed with beside the model; nil is nothing. Prefixes are shared within one adapter.
    package let adapter: AdapterReference?

    /// Gathers the fields; `Scheduler.add` validates them.
    package init(
        id: RequestID, prompt: [TokenID], maxNewTokens: Int, stopTokens: [TokenID] = [],
        sampling: SamplingParameters = .greedy, priority: Int = 0, arrival: Duration = .zero, cacheSalt: UInt64 = 0,
        deadline: Duration? = nil, repetition: RepetitionDetection? = nil, promptLogprobCount: Int? = nil,
        constraint: (any TokenConstraint)? = nil, tenant: UInt64 = 0, pooling: Pooling? = nil,
        adapter: AdapterReference? = nil
    ) {
        self.id = id
        self.prompt = prompt
        self.maxNewTokens = maxNewTokens
        self.stopTokens = stopTokens
        self.sampling = sampling
        self.priority = priority
        self.arrival = arrival
        self.cacheSalt = cacheSalt
        self.deadline = deadline
        self.repetition = repetition
        self.promptLogprobCount = promptLogprobCount
        self.tenant = tenant
        self.pooling = pooling
        self.constraint = constraint
        self.adapter = adapter
    }
}
