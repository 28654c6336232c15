// One choice of an answer as it grows: tokens in; text, log-probabilities and at last a finish reason out.
//
// What may be given out is decided here and nowhere else, so the pieces of a stream joined are the whole answer.

import Execution
import Scheduling
import Tokenization

/// One token with its log-probabilities, for an answer that was asked for them.
struct TokenEntry: Sendable {
    let token: TokenID
    /// nil for the first token of an echoed prompt, which nothing came before.
    let logprob: Float?
    /// The most likely tokens at this position, best first.
    let alternatives: [TokenLogprob]
    /// Characters of the choice's tokens before this one.
    let textOffset: Int
}

/// How a choice ended, as the API says it.
struct Finish: Sendable, Equatable {
    /// What of the request's own ended it.
    enum Cause: Sendable, Equatable {
        case string(String)
        case token(TokenID)
    }

    /// `stop`, `length`, `repetition` or `abort`.
    let reason: StaticString
    var cause: Cause?

    static func == (left: Finish, right: Finish) -> Bool {
        left.reason.description == right.reason.description && left.cause == right.cause
    }
}

/// What an event adds to an answer.
struct Delta: Sendable {
    let choice: Int
    /// Whether nothing of this choice came before.
    let isFirst: Bool
    var text = ""
    /// What the model thought before it answered.
    var reasoning = ""
    /// Starts, pieces and ends of calls.
    var calls: [ToolCallEvent] = []
    var entries: [TokenEntry] = []
    /// Generated tokens; empty unless they were asked for.
    var tokens: [TokenID] = []
    /// With the first piece, where token ids were asked for.
    var promptTokens: [TokenID]?
    /// With the first piece, where they were asked for.
    var promptScores: [TokenSample]?
    var finish: Finish?

    init(choice: Int, isFirst: Bool) {
        self.choice = choice
        self.isFirst = isFirst
    }

    /// Adds what came after this.
    mutating func append(_ next: Delta) {
        text += next.text
        reasoning += next.reasoning
        calls += next.calls
        entries += next.entries
        tokens += next.tokens
        promptTokens = promptTokens ?? next.promptTokens
        promptScores = promptScores ?? next.promptScores
        finish = next.finish
    }
}

/// What a choice gives out besides its tokens' text, and where it ends; the same for all choices of a request.
struct ChoiceSettings: Sendable {
    var answer: AnswerFields
    var sampling: SamplingFields
    /// The model's own end tokens; ending with one has no cause to report.
    var endTokens: [TokenID]
    /// Text in front; nil decodes the prompt, where it is echoed at all.
    var echo: String?
    /// How the text is taken apart.
    var parts = AnswerParts()

    /// Whether the prompt is the whole answer.
    var isPromptOnly: Bool { sampling.maxTokens == 0 }
}

/// The state of one choice.
struct Choice: Sendable {
    /// Its place in the answer: prompt index × n + i.
    let index: Int
    /// Its name in the engine.
    let requestID: RequestID
    /// Tokens generated so far, a stop token included.
    private(set) var generatedTokens = 0
    /// Prompt tokens found in the prefix cache; known at the end.
    private(set) var cachedTokens = 0
    /// Set once it ended; what the engine says later is not looked at.
    private(set) var isFinished = false

    private let tokenizer: Tokenizer
    private let settings: ChoiceSettings
    private let prompt: [TokenID]
    private let stopTokens: [TokenID]
    private let maxNewTokens: Int
    private var detokenizer: StreamingDetokenizer
    private var stops: StopStrings
    private var splitter: AnswerSplitter
    private var textOffset = 0
    private var isFirst = true
    /// Log-probabilities of the prompt, from its second token on.
    private var scores: [TokenSample] = []
    /// What the token before added, if it was expected to be the last: it waits for the finish reason, which the engine
    /// reports in the same step. Clients count chunks, so an extra empty one would be an extra token to them.
    private var held: Delta?

    init(index: Int, request: GenerationRequest, settings: ChoiceSettings, tokenizer: Tokenizer) {
        self.index = index
        requestID = request.id
        self.settings = settings
        prompt = request.prompt
        stopTokens = request.stopTokens
        maxNewTokens = request.maxNewTokens
        self.tokenizer = tokenizer
        // After text, a space that the answer begins with is between two words; after a control token it is a mark of
        // the vocabulary's.
        detokenizer = StreamingDetokenizer(
            tokenizer, skipSpecialTokens: settings.answer.skipsSpecialTokens,
            continues: request.prompt.last.map { !tokenizer.isControl($0) } ?? false)
        stops = StopStrings(settings.sampling.stop, keepsMatch: settings.answer.includesStop)
        splitter = AnswerSplitter(settings.parts)
    }

    /// Takes an event; returns what can be given out now, if anything.
    mutating func accept(_ event: EngineEvent) throws(ServingError) -> Delta? {
        guard !isFinished else { return nil }
        switch event {
        case .promptScores(let more):
            scores += more
            return nil
        case .pooled:
            // Nobody asks for it here.
            return nil
        case .token(let sample): return try append(sample)
        case .finished(let reason, let usage):
            cachedTokens = usage.cachedTokens
            return try end(reason)
        case .failed(let error):
            isFinished = true
            throw .engine(error)
        }
    }

    private mutating func append(_ sample: TokenSample) throws(ServingError) -> Delta? {
        // The engine generates one token where none was asked for.
        if settings.isPromptOnly { return nil }
        generatedTokens += 1
        var delta = try takeHeld()
        let isStopToken = stopTokens.contains(sample.token)
        let piece = isStopToken && !settings.answer.includesStop ? "" : detokenizer.append(sample.token)
        if settings.sampling.logprobs != nil { delta.entries.append(entry(sample, adding: piece)) }
        if settings.answer.returnsTokenIDs { delta.tokens.append(sample.token) }
        // Before the least length nothing ends the choice, so stop strings are not looked for.
        splitter.append(
            generatedTokens > settings.sampling.logits.minTokens ? stops.append(piece) : piece, to: &delta)
        if let found = stops.found {
            isFinished = true
            splitter.finish(to: &delta)
            delta.finish = Finish(reason: "stop", cause: .string(found))
            return delta
        }
        if isStopToken || generatedTokens >= maxNewTokens {
            held = delta
            return nil
        }
        return delta
    }

    private mutating func end(_ reason: FinishReason) throws(ServingError) -> Delta {
        isFinished = true
        var delta = try takeHeld()
        if settings.isPromptOnly {
            delta.finish = Finish(reason: "length")
            return delta
        }
        splitter.append(stops.append(detokenizer.finish()), to: &delta)
        splitter.append(stops.finish(), to: &delta)
        splitter.finish(to: &delta)
        delta.finish = finish(reason)
        return delta
    }

    private func finish(_ reason: FinishReason) -> Finish {
        if let found = stops.found { return Finish(reason: "stop", cause: .string(found)) }
        if case .stop(let token) = reason, !settings.endTokens.contains(token) {
            return Finish(reason: "stop", cause: .token(token))
        }
        if splitter.hasCalls, !settings.parts.isNamed, reason.isOwn { return Finish(reason: "tool_calls") }
        return Finish(reason: reason.name)
    }

    private mutating func takeHeld() throws(ServingError) -> Delta {
        if let delta = held {
            held = nil
            return delta
        }
        var delta = Delta(choice: index, isFirst: isFirst)
        if isFirst { try addPrompt(to: &delta) }
        isFirst = false
        return delta
    }

    /// Puts the prompt in front, in the ways that were asked for.
    private mutating func addPrompt(to delta: inout Delta) throws(ServingError) {
        if settings.answer.returnsTokenIDs { delta.promptTokens = prompt }
        if let count = settings.answer.promptLogprobs {
            delta.promptScores = scores.map { score in
                TokenSample(
                    token: score.token, logprob: score.logprob, topLogprobs: Array(score.topLogprobs.prefix(count)),
                    rank: score.rank)
            }
        }
        guard settings.answer.echoes else { return }
        if let echo = settings.echo {
            delta.text = echo
            return
        }
        var entries: [TokenEntry] = []
        for (index, token) in prompt.enumerated() {
            let piece = detokenizer.append(token)
            delta.text += piece
            if let count = settings.sampling.logprobs {
                let score = index > 0 && index <= scores.count ? scores[index - 1] : nil
                entries.append(
                    TokenEntry(
                        token: token, logprob: score?.logprob,
                        alternatives: (score?.topLogprobs ?? []).prefix(count).map { $0 }, textOffset: textOffset))
            }
            textOffset += piece.unicodeScalars.count
        }
        let rest = detokenizer.finish()
        delta.text += rest
        textOffset += rest.unicodeScalars.count
        delta.entries = entries
    }

    /// - Parameter piece: the text that the token completes; its offset is where that text begins.
    private mutating func entry(_ sample: TokenSample, adding piece: String) -> TokenEntry {
        let entry = TokenEntry(
            token: sample.token, logprob: sample.logprob, alternatives: sample.topLogprobs, textOffset: textOffset)
        textOffset += piece.unicodeScalars.count
        return entry
    }
}

extension FinishReason {
    /// Whether the model ended by itself.
    fileprivate var isOwn: Bool {
        switch self {
        case .stop, .complete: true
        case .length, .repetition, .abort, .deadline, .error: false
        }
    }

    /// The word the API has for it.
    fileprivate var name: StaticString {
        switch self {
        case .stop, .complete: "stop"
        case .length: "length"
        case .repetition: "repetition"
        case .abort, .deadline: "abort"
        case .error: "error"
        }
    }
}
