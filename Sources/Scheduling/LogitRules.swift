// What changes a request's logits before a token is chosen: penalties, biases, bans and an allow-list.
//
// Most requests have none of it, so it hangs behind one reference that is nil for them. The rules themselves never
// change; what they make of a sequence at one position is an immutable `LogitChange` for that one sample.

/// A number added to one token's logit; minus infinity bans it.
package struct TokenBias: Sendable, Equatable {
    package let token: TokenID
    package let bias: Float

    package init(token: TokenID, bias: Float) {
        self.token = token
        self.bias = bias
    }
}

/// How often a token stands in a sequence, for the penalties.
package struct TokenCount: Sendable, Equatable {
    package let token: TokenID
    /// Times it was generated.
    package var generated: Int32
    /// Whether the prompt holds it.
    package var isInPrompt: Bool
}

/// The rules of one request.
package final class LogitRules: Sendable {
    /// Subtracted from the logit of every token that was generated.
    package let presencePenalty: Float
    /// Subtracted once for each time that a token was generated.
    package let frequencyPenalty: Float
    /// Divides positive logits and multiplies negative ones of every token in prompt or output; 1 is off.
    package let repetitionPenalty: Float
    /// Added to logits, before the penalties.
    package let biases: [TokenBias]
    /// In rising order, the only tokens that may be chosen; nil allows all.
    package let allowedTokens: [TokenID]?
    /// The last token of each is banned where the tokens before it are the last ones generated.
    package let bannedSequences: [[TokenID]]
    /// Tokens to generate before any of `endTokens` may be chosen.
    package let minNewTokens: Int
    /// The model's own end tokens and the request's.
    package let endTokens: [TokenID]

    package init(
        presencePenalty: Float = 0, frequencyPenalty: Float = 0, repetitionPenalty: Float = 1,
        biases: [TokenBias] = [], allowedTokens: [TokenID]? = nil, bannedSequences: [[TokenID]] = [],
        minNewTokens: Int = 0, endTokens: [TokenID] = []
    ) {
        self.presencePenalty = presencePenalty
        self.frequencyPenalty = frequencyPenalty
        self.repetitionPenalty = repetitionPenalty
        self.biases = biases
        self.allowedTokens = allowedTokens
        self.bannedSequences = bannedSequences.filter { !$0.isEmpty }
        self.minNewTokens = minNewTokens
        self.endTokens = endTokens
    }

    /// Whether any penalty is on.
    package var hasPenalties: Bool { presencePenalty != 0 || frequencyPenalty != 0 || repetitionPenalty != 1 }

    /// Whether the next token cannot be chosen before the last one is known: such a sequence is not planned ahead.
    package var needsLastToken: Bool { hasPenalties || bannedSequences.contains { $0.count > 1 } }

    /// Whether there is nothing in it.
    package var isNeutral: Bool {
        !hasPenalties && biases.isEmpty && allowedTokens == nil && bannedSequences.isEmpty
            && (minNewTokens == 0 || endTokens.isEmpty)
    }

    /// Tokens that may not follow `tokens`, of which those from `promptTokenCount` on were generated.
    func bans(after tokens: [TokenID], promptTokenCount: Int, generatedTokenCount: Int) -> [TokenID] {
        var bans = generatedTokenCount < minNewTokens ? endTokens : []
        let generated = tokens[promptTokenCount...]
        for banned in bannedSequences {
            let before = banned.dropLast()
            if before.isEmpty || generated.suffix(before.count).elementsEqual(before) { bans += banned.suffix(1) }
        }
        return bans
    }
}

/// What the rules make of one sequence at one position.
package final class LogitChange: Sendable {
    package let rules: LogitRules
    /// Tokens that may not be chosen here, besides what the biases and the allow-list of the rules say.
    package let bans: [TokenID]
    /// Each token once; empty without penalties.
    package let counts: [TokenCount]

    package init(rules: LogitRules, bans: [TokenID] = [], counts: [TokenCount] = []) {
        self.rules = rules
        self.bans = bans
        self.counts = counts
    }
}

/// Counts of the tokens of one sequence that has penalties; an append costs constant time.
struct TokenHistory {
    private(set) var counts: [TokenCount] = []
    private var index: [TokenID: Int] = [:]

    /// - Parameters:
    ///   - tokens: of which the first `promptTokenCount` are the prompt.
    init(_ tokens: [TokenID], promptTokenCount: Int) {
        for token in tokens[..<promptTokenCount] { counts[place(of: token)].isInPrompt = true }
        for token in tokens[promptTokenCount...] { append(token) }
    }

    /// Counts a generated token.
    mutating func append(_ token: TokenID) { counts[place(of: token)].generated += 1 }

    private mutating func place(of token: TokenID) -> Int {
        if let place = index[token] { return place }
        index[token] = counts.count
        counts.append(TokenCount(token: token, generated: 0, isInPrompt: false))
        return counts.count - 1
    }
}
