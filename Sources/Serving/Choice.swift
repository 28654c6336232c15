// One choice of an answer as it grows: tokens in; text, log-probabilities and at last a finish reason out.
//
// What may be given out is decided here and nowhere else, so the pieces of a stream joined are the whole answer.

import Execution
import Scheduling
import Tokenization

/// One generated token with its log-probabilities, for an answer that was asked for them.
struct TokenEntry: Sendable {
    let token: TokenID
    let logprob: Float
    /// The most likely tokens at this position, best first.
    let alternatives: [TokenLogprob]
    /// Characters of the choice's tokens before this one.
    let textOffset: Int
}

/// How a choice ended, as the API says it.
struct Finish: Sendable, Equatable {
    /// `stop`, `length` or `abort`.
    let reason: StaticString
    /// The stop string that was found.
    var stopString: String?

    static func == (left: Finish, right: Finish) -> Bool {
        left.reason.description == right.reason.description && left.stopString == right.stopString
    }
}

/// What an event adds to an answer.
struct Delta: Sendable {
    let choice: Int
    /// Whether nothing of this choice came before.
    let isFirst: Bool
    var text: String
    var entries: [TokenEntry]
    var finish: Finish?
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
    private let stopTokens: [TokenID]
    private let maxNewTokens: Int
    private let collectsEntries: Bool
    private var detokenizer: StreamingDetokenizer
    private var stops: StopStrings
    private var textOffset = 0
    private var isFirst = true
    /// What the token before added, if it was expected to be the last: it waits for the finish reason, which the engine
    /// reports in the same step. Clients count chunks, so an extra empty one would be an extra token to them.
    private var held: Delta?

    init(index: Int, request: GenerationRequest, stops: [String], tokenizer: Tokenizer) {
        self.index = index
        requestID = request.id
        stopTokens = request.stopTokens
        maxNewTokens = request.maxNewTokens
        collectsEntries = request.sampling.logprobCount != nil
        self.tokenizer = tokenizer
        detokenizer = StreamingDetokenizer(tokenizer, skipSpecialTokens: true)
        self.stops = StopStrings(stops)
    }

    /// Takes an event; returns what can be given out now, if anything.
    mutating func accept(_ event: EngineEvent) throws(ServingError) -> Delta? {
        guard !isFinished else { return nil }
        switch event {
        case .promptScores: return nil
        case .token(let sample): return try append(sample)
        case .finished(let reason, let usage):
            cachedTokens = usage.cachedTokens
            return end(reason)
        case .failed(let error):
            isFinished = true
            throw .engine(error)
        }
    }

    private mutating func append(_ sample: TokenSample) throws(ServingError) -> Delta? {
        generatedTokens += 1
        var delta = takeHeld()
        let isStopToken = stopTokens.contains(sample.token)
        let piece = isStopToken ? "" : try text(of: sample.token)
        if collectsEntries { delta.entries.append(entry(sample, adding: piece)) }
        if !isStopToken { delta.text += stops.append(piece) }
        if let found = stops.found {
            isFinished = true
            delta.finish = Finish(reason: "stop", stopString: found)
            return delta
        }
        if isStopToken || generatedTokens >= maxNewTokens {
            held = delta
            return nil
        }
        return delta
    }

    private mutating func end(_ reason: FinishReason) -> Delta {
        isFinished = true
        var delta = takeHeld()
        delta.text += stops.append(detokenizer.finish())
        delta.text += stops.finish()
        delta.finish = stops.found.map { Finish(reason: "stop", stopString: $0) } ?? Finish(reason: reason.name)
        return delta
    }

    private mutating func takeHeld() -> Delta {
        defer {
            held = nil
            isFirst = false
        }
        return held ?? Delta(choice: index, isFirst: isFirst, text: "", entries: [], finish: nil)
    }

    private mutating func text(of token: TokenID) throws(ServingError) -> String {
        do {
            return try detokenizer.append(token)
        } catch {
            // The engine only samples from its vocabulary, so this is its defect and not the client's.
            throw .unexpected("the engine generated token \(token): \(error)")
        }
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
    /// The word the API has for it.
    fileprivate var name: StaticString {
        switch self {
        case .stop: "stop"
        case .length: "length"
        case .repetition: "repetition"
        case .abort, .deadline: "abort"
        case .error: "error"
        }
    }
}
