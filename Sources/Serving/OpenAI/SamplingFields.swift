// The fields that /v1/completions and /v1/chat/completions share, with their ranges.

import Scheduling

/// How many tokens to generate and how, as a request says it.
struct SamplingFields: Sendable {
    /// Most tokens to generate; nil is until the context is full.
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
    /// Whether to go on after the model's own end.
    var ignoreEOS: Bool
    /// nil: no log-probabilities; k: the sampled token's and those of the k most likely.
    var logprobs: Int?

    /// Most strings in `stop`, and bytes in one of them.
    static let maxStopStrings = 16
    static let maxStopBytes = 256
    /// Most alternatives for one token.
    static let maxLogprobs = 20

    /// Reads the shared fields. `maxTokens` and `logprobs` differ between the endpoints, so the caller reads them.
    init(
        _ fields: JSONFields, maxTokens: Int?, logprobs: Int?, configuration: ServingConfiguration
    ) throws(ServingError) {
        let defaults = configuration.defaults
        self.maxTokens = maxTokens
        self.logprobs = logprobs
        let temperature = try fields.number("temperature", in: 0...2) ?? defaults.temperature
        // Close to zero is meant as greedy; a little above would overflow the logits.
        self.temperature = temperature < 1e-5 ? 0 : Float(max(temperature, 0.01))
        // The smallest Double above 0 is 0 as a Float.
        topP = max(
            .leastNormalMagnitude, Float(try fields.number("top_p", in: 0...1, excludingLower: true) ?? defaults.topP))
        topK = max(0, try fields.integer("top_k", in: -1...Int(Int32.max)) ?? defaults.topK)
        minP = Float(try fields.number("min_p", in: 0...1) ?? defaults.minP)
        let seed = try fields.integer("seed", in: .min ... .max)
        self.seed = seed == -1 ? nil : seed.map { UInt64(bitPattern: Int64($0)) }
        n = try fields.integer("n", in: 1...configuration.maxChoices) ?? 1
        ignoreEOS = try fields.bool("ignore_eos") ?? false
        stop = try Self.stopStrings(fields)
    }

    /// The limit on generated tokens under its two names. The older one is checked even where the newer one wins.
    static func maxTokens(_ fields: JSONFields) throws(ServingError) -> Int? {
        let older = try fields.integer("max_tokens", in: 1 ... .max)
        return try fields.integer("max_completion_tokens", in: 1 ... .max) ?? older
    }

    private static func stopStrings(_ fields: JSONFields) throws(ServingError) -> [String] {
        let elements: [JSONValue]
        switch fields["stop"] {
        case nil: return []
        case .string(let text): elements = [.string(text)]
        case .array(let list): elements = list
        case .some(let value): throw fields.mismatch("stop", value, "a string or a list of strings")
        }
        guard elements.count <= maxStopStrings else {
            throw fields.invalid("stop", .array(elements), "a list of at most \(maxStopStrings) strings")
        }
        var strings: [String] = []
        for element in elements {
            guard case .string(let text) = element else {
                throw fields.mismatch("stop", element, "a string or a list of strings")
            }
            guard (1...maxStopBytes).contains(text.utf8.count) else {
                throw fields.invalid("stop", element, "made of strings of 1 to \(maxStopBytes) bytes")
            }
            strings.append(text)
        }
        return strings
    }

    /// The sampler's settings for choice `index` of a prompt.
    func parameters(seed: UInt64, choice index: Int) -> SamplingParameters {
        SamplingParameters(
            temperature: temperature, topP: topP, topK: topK, minP: minP, seed: seed &+ UInt64(index),
            logprobCount: logprobs)
    }
}

/// Whether and how an answer is streamed.
struct StreamFields: Sendable {
    let isStreamed: Bool
    /// A last chunk with the usage.
    let includesUsage: Bool
    /// Running usage on every chunk.
    let hasContinuousUsage: Bool

    init(_ fields: JSONFields) throws(ServingError) {
        isStreamed = try fields.bool("stream") ?? false
        guard let options = try fields.object("stream_options") else {
            (includesUsage, hasContinuousUsage) = (false, false)
            return
        }
        guard isStreamed else {
            throw .invalidValue(
                field: "stream_options", value: "an object of \(options.members.count)",
                requirement: "absent unless stream is true")
        }
        includesUsage = try options.bool("include_usage") ?? false
        hasContinuousUsage = try options.bool("continuous_usage_stats") ?? false && includesUsage
    }
}
