// How an answer is written: what both endpoints share. The two formats write the same deltas, as events of a stream or
// as one object.

import NIOCore
import Tokenization

/// What stands at the top of every object of one answer.
struct AnswerHead: Sendable {
    /// `cmpl-…` or `chatcmpl-…`.
    let id: String
    /// When the answer was begun, in seconds since 1970.
    let created: Int
    /// The model, by the name the client used.
    let model: String

    /// The beginning of an object of this answer, up to its choices; the same for each of its chunks.
    func opening(object: StaticString) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeStaticString("{\"id\":")
        buffer.writeJSON(id)
        buffer.writeStaticString(",\"object\":\"")
        buffer.writeStaticString(object)
        buffer.writeStaticString("\",\"created\":")
        buffer.writeJSON(created)
        buffer.writeStaticString(",\"model\":")
        buffer.writeJSON(model)
        buffer.writeStaticString(",\"choices\":[")
        return buffer
    }
}

/// Tokens that an answer cost.
struct Usage: Sendable, Equatable {
    /// Every prompt once, however many choices it has.
    var promptTokens = 0
    /// All choices together.
    var completionTokens = 0
    /// Prompt tokens from the prefix cache; nil where that is not reported.
    var cachedTokens: Int?

    func write(to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"prompt_tokens\":")
        buffer.writeJSON(promptTokens)
        buffer.writeStaticString(",\"completion_tokens\":")
        buffer.writeJSON(completionTokens)
        buffer.writeStaticString(",\"total_tokens\":")
        buffer.writeJSON(promptTokens + completionTokens)
        buffer.writeStaticString(",\"prompt_tokens_details\":")
        if let cachedTokens {
            buffer.writeStaticString("{\"cached_tokens\":")
            buffer.writeJSON(cachedTokens)
            buffer.writeStaticString("}}")
        } else {
            buffer.writeStaticString("null}")
        }
    }
}

/// What an answer shows besides text.
struct AnswerDetails: Sendable {
    /// nil where no log-probabilities were asked for.
    var logprobs: LogprobTexts?
    /// For the prompt's own list.
    var promptLogprobs: LogprobTexts?
    var returnsTokenIDs = false

    init(_ sampling: SamplingFields, _ answer: AnswerFields, tokenizer: Tokenizer) {
        let texts = LogprobTexts(tokenizer: tokenizer, showsTokenIDs: answer.showsTokenIDs)
        logprobs = sampling.logprobs == nil ? nil : texts
        promptLogprobs = answer.promptLogprobs == nil ? nil : LogprobTexts(tokenizer: tokenizer)
        returnsTokenIDs = answer.returnsTokenIDs
    }
}

/// Writes one answer in the shape of its endpoint, as a stream of events or whole.
protocol AnswerFormat: Sendable {
    /// Writes the events for `delta`; `usage` where every chunk has it.
    mutating func writeEvents(_ delta: Delta, usage: Usage?, to buffer: inout ByteBuffer)
    /// Writes the events after the last delta.
    mutating func writeEnd(_ usage: Usage, includesUsage: Bool, to buffer: inout ByteBuffer)
    /// Writes the events of an error that came too late for a status.
    func writeFailure(_ error: ServingError, to buffer: inout ByteBuffer)
    /// Writes a whole answer.
    func writeAnswer(_ choices: [Delta], usage: Usage, to buffer: inout ByteBuffer)
}

/// What the formats of OpenAI's endpoints share.
protocol ChoicesFormat: AnswerFormat {
    /// What every chunk begins with.
    var chunkOpening: ByteBuffer { get }
    /// What a whole answer begins with.
    var answerOpening: ByteBuffer { get }

    /// Writes one element of `choices` of a whole answer.
    func writeChoice(_ choice: Delta, to buffer: inout ByteBuffer)
    /// Writes what follows the usage of a whole answer, with a comma before it.
    func writeTail(_ choices: [Delta], to buffer: inout ByteBuffer)
    var details: AnswerDetails { get }
}

extension ChoicesFormat {
    /// Writes one event with one element of `choices`, whose members `body` writes.
    /// - Parameter promptTokens: shown beside the choices.
    func writeChunk(
        to buffer: inout ByteBuffer, usage: Usage?, promptTokens: [Int32]? = nil, _ body: (inout ByteBuffer) -> Void
    ) {
        buffer.beginEvent()
        buffer.writeImmutableBuffer(chunkOpening)
        buffer.writeStaticString("{")
        body(&buffer)
        buffer.writeStaticString("}]")
        if let promptTokens {
            buffer.writeStaticString(",\"prompt_token_ids\":")
            buffer.writeTokens(promptTokens)
        }
        if let usage {
            buffer.writeStaticString(",\"usage\":")
            usage.write(to: &buffer)
        }
        buffer.writeStaticString("}")
        buffer.endEvent()
    }

    /// Writes the event that has the usage and no choices, and the one after which nothing follows.
    func writeEnd(_ usage: Usage, includesUsage: Bool, to buffer: inout ByteBuffer) {
        defer { buffer.writeDoneEvent() }
        guard includesUsage else { return }
        buffer.beginEvent()
        buffer.writeImmutableBuffer(chunkOpening)
        buffer.writeStaticString("],\"usage\":")
        usage.write(to: &buffer)
        buffer.writeStaticString("}")
        buffer.endEvent()
    }

    func writeFailure(_ error: ServingError, to buffer: inout ByteBuffer) {
        buffer.beginEvent()
        OpenAIError(error).write(to: &buffer)
        buffer.endEvent()
        buffer.writeDoneEvent()
    }

    func writeAnswer(_ choices: [Delta], usage: Usage, to buffer: inout ByteBuffer) {
        buffer.writeImmutableBuffer(answerOpening)
        buffer.writeList(choices) { buffer, choice in writeChoice(choice, to: &buffer) }
        buffer.writeStaticString("],\"usage\":")
        usage.write(to: &buffer)
        buffer.writeStaticString(",\"system_fingerprint\":null,\"service_tier\":null,\"kv_transfer_params\":null")
        writeTail(choices, to: &buffer)
        buffer.writeStaticString("}")
    }

    /// Writes the finish reason, or null, and the stop string.
    func writeFinish(_ finish: Finish?, to buffer: inout ByteBuffer) {
        guard let finish else {
            buffer.writeStaticString("\"finish_reason\":null,\"stop_reason\":null")
            return
        }
        buffer.writeStaticString("\"finish_reason\":\"")
        buffer.writeStaticString(finish.reason)
        buffer.writeStaticString("\",\"stop_reason\":")
        switch finish.cause {
        case nil: buffer.writeStaticString("null")
        case .string(let text): buffer.writeJSON(text)
        case .token(let token): buffer.writeJSON(Int(token))
        }
    }

    /// Writes log-probabilities of the prompt, or null.
    func writePromptScores(_ choice: Delta?, to buffer: inout ByteBuffer) {
        buffer.writeStaticString(",\"prompt_logprobs\":")
        if let texts = details.promptLogprobs, let scores = choice?.promptScores {
            texts.writePromptList(scores, to: &buffer)
        } else {
            buffer.writeStaticString("null")
        }
    }

    /// Writes the generated tokens, or null.
    func writeTokenIDs(_ delta: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString(",\"token_ids\":")
        buffer.writeTokens(details.returnsTokenIDs ? delta.tokens : nil)
    }
}

extension ByteBuffer {
    /// Writes a list of tokens, or null.
    mutating func writeTokens(_ tokens: [Int32]?) {
        guard let tokens else {
            writeStaticString("null")
            return
        }
        writeStaticString("[")
        writeList(tokens) { buffer, token in buffer.writeJSON(Int(token)) }
        writeStaticString("]")
    }
}
