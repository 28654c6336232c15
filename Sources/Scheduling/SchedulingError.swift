// What the scheduler refuses, with the numbers and the remedy.
//
// Refusals happen at start-up (limits) or at admission (requests); a request that was admitted ends with an event.

/// One limit that is out of range.
package struct LimitViolation: Sendable, Equatable {
    /// The flag's name.
    package let field: String
    /// What was given.
    package let value: String
    /// What would have been accepted.
    package let allowed: String
}

/// Everything `SchedulerLimits.init` and `Scheduler.add` refuse.
package enum SchedulingError: Error, Equatable, CustomStringConvertible {
    /// Limits out of range; all of them.
    case invalidLimits([LimitViolation])
    /// A prompt without tokens.
    case emptyPrompt(RequestID)
    /// A request that asks for no new token.
    case noNewTokens(RequestID, maxNewTokens: Int)
    /// A prompt that leaves no room for a token.
    case promptTooLong(RequestID, promptTokens: Int, maxModelLength: Int)
    /// A request that would not fit an empty pool.
    case neverFits(RequestID, neededBlocks: Int, blockCount: Int, blockSize: Int)
    /// A request whose deadline passes before its first token can come, as far as anybody knows.
    case hopeless(RequestID, estimate: Duration, remaining: Duration)
    /// An id that is in use.
    case duplicateRequest(RequestID)

    package var description: String {
        switch self {
        case .invalidLimits(let violations):
            violations.map { "\($0.field) is \($0.value); allowed: \($0.allowed)." }.joined(separator: "\n")
        case .emptyPrompt(let id):
            "\(id) has an empty prompt; at least 1 token is needed."
        case .noNewTokens(let id, let maxNewTokens):
            "\(id) asks for \(maxNewTokens) new tokens; at least 1 is needed."
        case .promptTooLong(let id, let promptTokens, let maxModelLength):
            "\(id) has \(promptTokens) prompt tokens; this model accepts \(maxModelLength - 1) and 1 new token. "
                + "Shorten the prompt or raise max-model-len."
        case .neverFits(let id, let neededBlocks, let blockCount, let blockSize):
            "\(id) can need \(neededBlocks) blocks of \(blockSize) tokens; the whole KV cache has \(blockCount). "
                + "Shorten the prompt, lower max_tokens or enlarge the cache."
        case .hopeless(let id, let estimate, let remaining):
            "\(id) would get its first token in about \(estimate) and gives up after \(remaining). "
                + "Try again later or allow more time."
        case .duplicateRequest(let id):
            "\(id) is already in the engine; request ids are never used twice."
        }
    }
}
