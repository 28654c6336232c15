// What an answer shows besides its text, and what is done to the prompt: fields that both endpoints share.

import JSON
import Scheduling

/// What an answer holds.
struct AnswerFields: Sendable {
    /// Whether the prompt stands in front.
    var echoes: Bool
    /// Whether control tokens leave no trace in the text.
    var skipsSpecialTokens: Bool
    /// Whether the text of what ended the answer stays.
    var includesStop: Bool
    /// Whether tokens are listed by id.
    var returnsTokenIDs: Bool
    /// Whether log-probabilities name tokens by id.
    var showsTokenIDs: Bool
    /// nil: none; k: log-probabilities of the prompt's tokens and of the k most likely ones.
    var promptLogprobs: Int?

    init(_ fields: JSONFields, isStreamed: Bool) throws(ServingError) {
        echoes = try fields.bool(.echo) ?? false
        skipsSpecialTokens = try fields.bool(.skipsSpecialTokens) ?? true
        _ = try fields.bool(.spacesBetweenSpecialTokens)
        includesStop = try fields.bool(.includesStop) ?? false
        returnsTokenIDs = try fields.bool(.returnsTokenIDs) ?? false
        showsTokenIDs = try fields.bool(.showsTokenIDs) ?? false
        promptLogprobs = try fields.integer(.promptLogprobs)
        if let promptLogprobs, isStreamed {
            throw .invalidValue(
                field: "prompt_logprobs", value: "\(promptLogprobs)", requirement: "absent where stream is true")
        }
    }
}

/// What is done to prompts, and how a request is queued.
struct PromptFields: Sendable {
    /// nil: not cut; −1: to what fits; k: to k tokens.
    var truncation: Int?
    /// Whether cutting keeps the last tokens.
    var keepsEnd: Bool
    /// Whether something is generated after it.
    var leavesRoom = true
    /// nil is the endpoint's default.
    var addsSpecialTokens: Bool?
    /// Key of the prefix cache's part; 0 is the shared one.
    var cacheSalt: UInt64
    var priority: Int
    /// Time the answer may take from its arrival on.
    var timeout: Duration?
    /// What the answer's id is made of, where no header says so.
    let requestID: String?

    init(_ fields: JSONFields, model: ServedModel) throws(ServingError) {
        truncation = try fields.integer(.truncate)
        keepsEnd = try fields.text(.truncationSide) != "right"
        addsSpecialTokens = try fields.bool(.addsSpecialTokens)
        cacheSalt = try fields.text(.cacheSalt).map(CacheSalt.value) ?? 0
        priority = try fields.integer(.priority) ?? 0
        if priority != 0, !model.usesPriorities {
            throw .invalidValue(
                field: "priority", value: "\(priority)",
                requirement: "0, because the server's scheduling policy is not priority")
        }
        timeout = try fields.integer(.timeout).map { .milliseconds($0) }
        requestID = try fields.text(.requestID)
    }

    /// Takes the time-outs of a request's headers too; the earliest counts.
    mutating func add(timeoutHeader text: String?, named name: String) throws(ServingError) {
        guard let text else { return }
        guard case .integer(let range) = RequestField.timeout.kind, let value = Int(text), range.contains(value) else {
            throw .invalidValue(
                field: name, value: JSONValue.quoted(text), requirement: RequestField.timeout.requirement)
        }
        timeout = min(timeout ?? .milliseconds(value), .milliseconds(value))
    }
}

/// Salts of the prefix cache as the engine knows them.
enum CacheSalt {
    /// New in each process, so that nobody can look for salts that collide.
    private static let key = (UInt64.random(in: 0 ... .max), UInt64.random(in: 0 ... .max))

    /// The number of a client's salt; never 0, which is the shared cache.
    static func value(_ text: String) -> UInt64 {
        var hash = SipHash128(key: key)
        var word: UInt64 = 0
        var count = 0
        for byte in text.utf8 {
            word = word << 8 | UInt64(byte)
            count += 1
            if count % 8 == 0 {
                hash.combine(word)
                word = 0
            }
        }
        hash.combine(word)
        hash.combine(UInt64(count))
        return max(1, hash.finish().low)
    }
}
