// The fields that /v1/completions and /v1/chat/completions share: how much to generate, how to choose, how to end.

import JSON
import Scheduling

/// How many tokens to generate and how, as a request says it.
struct SamplingFields: Sendable {
    /// Most tokens to generate; nil is until the context is full, 0 is only the echo of the prompt.
    var maxTokens: Int?
    /// 0 is greedy.
    var temperature: Float
    /// 1 is off.
    var topP: Float
    /// 0 is off.
    var topK: Int
    /// 0 is off.
    var minP: Float
    /// nil draws one.
    var seed: UInt64?
    /// Choices for each prompt.
    var n: Int
    /// Text that ends a choice.
    var stop: [String]
    /// Tokens that end a choice besides the model's own.
    var stopTokens: [TokenID]
    /// Whether to go on after the model's own end.
    var ignoreEOS: Bool
    /// nil: no log-probabilities; k: the sampled token's and those of the k most likely.
    var logprobs: Int?
    /// Tokens whose log-probabilities are shown instead of those of the most likely.
    var logprobTokens: [TokenID]?
    /// Penalties, biases and bans.
    var logits: LogitFields
    /// Ends a choice that repeats itself.
    var repetition: RepetitionDetection?

    /// Reads the shared fields. `maxTokens` and `logprobs` differ between the endpoints, so the caller reads them.
    init(
        _ fields: JSONFields, maxTokens: Int?, logprobs: Int?, model: ServedModel, configuration: ServingConfiguration
    ) throws(ServingError) {
        let defaults = configuration.defaults
        self.maxTokens = maxTokens
        self.logprobs = logprobs
        let temperature = try fields.number(.temperature) ?? defaults.temperature
        // Close to zero is meant as greedy; a little above would overflow the logits.
        self.temperature = temperature < 1e-5 ? 0 : Float(max(temperature, 0.01))
        // The smallest Double above 0 is 0 as a Float.
        topP = max(.leastNormalMagnitude, Float(try fields.number(.topP) ?? defaults.topP))
        topK = max(0, try fields.integer(.topK) ?? defaults.topK)
        minP = Float(try fields.number(.minP) ?? defaults.minP)
        let seed = try fields.integer(.seed)
        self.seed = seed == -1 ? nil : seed.map { UInt64(bitPattern: Int64($0)) }
        n = try fields.integer(.n, upTo: configuration.maxChoices) ?? 1
        if n > 1, self.temperature == 0 {
            throw .invalidValue(field: "n", value: "\(n)", requirement: "1 where the temperature is 0 (greedy)")
        }
        ignoreEOS = try fields.bool(.ignoreEOS) ?? false
        stop = try fields.strings(.stop) ?? []
        stopTokens = try fields.tokens(.stopTokens, vocabularyCount: model.vocabularyCount) ?? []
        logits = try LogitFields(fields, maxTokens: maxTokens, vocabularyCount: model.vocabularyCount)
        repetition = try Self.repetition(fields)
        logprobTokens = try fields.tokens(.logprobTokens, vocabularyCount: model.vocabularyCount)
        if let logprobTokens, logprobs == nil {
            throw .invalidValue(
                field: "logprob_token_ids", value: "a list of \(logprobTokens.count)",
                requirement: "absent unless there is logprobs")
        }
        let endTokens = Set(model.stopTokens + stopTokens)
        if logits.minTokens > 0, let allowed = logits.allowedTokens, endTokens.isSuperset(of: allowed) {
            throw .invalidValue(
                field: "allowed_token_ids", value: "a list of \(allowed.count)",
                requirement: "more than tokens that end the answer, or min_tokens can never be reached")
        }
    }

    /// The limit on generated tokens under its two names. The older one is checked even where the newer one wins.
    static func maxTokens(_ fields: JSONFields, allowsZero: Bool = false) throws(ServingError) -> Int? {
        let isZero = allowsZero && fields[RequestField.maxTokens.key]?.exactInteger == 0
        let older = isZero ? 0 : try fields.integer(.maxTokens)
        return try fields.integer(.maxCompletionTokens) ?? older
    }

    private static func repetition(_ fields: JSONFields) throws(ServingError) -> RepetitionDetection? {
        guard let options = try fields.object(.repetitionDetection) else { return nil }
        let largest = try options.integer(.maxPatternSize) ?? 0
        let smallest = max(1, try options.integer(.minPatternSize) ?? 1)
        let count = try options.integer(.minPatternCount)
        guard largest > 0 else { return nil }
        guard smallest <= largest else {
            throw .invalidValue(
                field: RequestField.minPatternSize.name, value: "\(smallest)",
                requirement: "at most max_pattern_size, which is \(largest)")
        }
        guard let count else {
            throw .missingField(
                field: RequestField.minPatternCount.name, requirement: RequestField.minPatternCount.requirement)
        }
        return RepetitionDetection(patternSizes: smallest...largest, minCount: count)
    }

    /// The sampler's settings for choice `index` of a prompt.
    func parameters(seed: UInt64, choice index: Int, rules: LogitRules?) -> SamplingParameters {
        SamplingParameters(
            temperature: temperature, topP: topP, topK: topK, minP: minP, seed: seed &+ UInt64(index),
            logprobCount: logprobs, logprobTokens: logprobTokens, rules: rules)
    }
}

/// What changes the logits before a token is chosen, as a request says it.
struct LogitFields: Sendable {
    var presencePenalty: Float
    var frequencyPenalty: Float
    var repetitionPenalty: Float
    var biases: [TokenBias]
    /// In rising order, each once; nil is all.
    var allowedTokens: [TokenID]?
    var badWords: [String]
    var minTokens: Int

    init(_ fields: JSONFields, maxTokens: Int?, vocabularyCount: Int) throws(ServingError) {
        presencePenalty = Float(try fields.number(.presencePenalty) ?? 0)
        frequencyPenalty = Float(try fields.number(.frequencyPenalty) ?? 0)
        // Beyond these bounds nothing changes any more but the arithmetic, which would overflow.
        repetitionPenalty = Float(min(max(try fields.number(.repetitionPenalty) ?? 1, 1e-6), 1e6))
        biases = (try fields.biases(.logitBias, vocabularyCount: vocabularyCount) ?? []).map {
            TokenBias(token: $0.token, bias: Float(min(max($0.bias, -100), 100)))
        }
        allowedTokens = try fields.tokens(.allowedTokens, vocabularyCount: vocabularyCount).map {
            Array(Set($0)).sorted()
        }
        badWords = try fields.strings(.badWords) ?? []
        minTokens = try fields.integer(.minTokens) ?? 0
        if let maxTokens, minTokens > maxTokens {
            throw .invalidValue(
                field: "min_tokens", value: "\(minTokens)", requirement: "at most max_tokens, which is \(maxTokens)")
        }
    }

    /// The scheduler's rules; nil where nothing is asked for.
    /// - Parameters:
    ///   - badWords: their tokens.
    ///   - endTokens: what `minTokens` holds back.
    func rules(badWords: [[TokenID]], endTokens: [TokenID]) -> LogitRules? {
        let rules = LogitRules(
            presencePenalty: presencePenalty, frequencyPenalty: frequencyPenalty,
            repetitionPenalty: repetitionPenalty, biases: biases, allowedTokens: allowedTokens,
            bannedSequences: badWords, minNewTokens: minTokens, endTokens: endTokens)
        return rules.isNeutral ? nil : rules
    }
}

/// Whether and how an answer is streamed.
struct StreamFields: Sendable {
    let isStreamed: Bool
    /// A last chunk with the usage.
    let includesUsage: Bool
    /// Running usage on every chunk.
    let hasContinuousUsage: Bool
    /// Tokens in each chunk after the first.
    let interval: Int

    init(_ fields: JSONFields) throws(ServingError) {
        isStreamed = try fields.bool(.stream) ?? false
        interval = try fields.integer(.streamInterval) ?? 1
        guard let options = try fields.object("stream_options") else {
            (includesUsage, hasContinuousUsage) = (false, false)
            return
        }
        guard isStreamed else {
            throw .invalidValue(
                field: "stream_options", value: "an object of \(options.members.count)",
                requirement: "absent unless stream is true")
        }
        includesUsage = try options.bool(.includesUsage) ?? false
        hasContinuousUsage = try options.bool(.continuousUsage) ?? false && includesUsage
    }
}
