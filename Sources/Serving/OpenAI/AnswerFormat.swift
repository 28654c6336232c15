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

/// Writes answers in the shape of one endpoint.
protocol AnswerFormat: Sendable {
    /// What every chunk begins with.
    var chunkOpening: ByteBuffer { get }
    /// What a whole answer begins with.
    var answerOpening: ByteBuffer { get }

    /// Writes the events for `delta`; `usage` where every chunk has it.
    func writeEvents(_ delta: Delta, usage: Usage?, to buffer: inout ByteBuffer)
    /// Writes one element of `choices` of a whole answer.
    func writeChoice(_ choice: Delta, to buffer: inout ByteBuffer)
}

extension AnswerFormat {
    /// Writes one event with one element of `choices`, whose members `body` writes.
    func writeChunk(to buffer: inout ByteBuffer, usage: Usage?, _ body: (inout ByteBuffer) -> Void) {
        buffer.beginEvent()
        buffer.writeImmutableBuffer(chunkOpening)
        buffer.writeStaticString("{")
        body(&buffer)
        buffer.writeStaticString("}]")
        if let usage {
            buffer.writeStaticString(",\"usage\":")
            usage.write(to: &buffer)
        }
        buffer.writeStaticString("}")
        buffer.endEvent()
    }

    /// Writes the event that has the usage and no choices.
    func writeUsageEvent(_ usage: Usage, to buffer: inout ByteBuffer) {
        buffer.beginEvent()
        buffer.writeImmutableBuffer(chunkOpening)
        buffer.writeStaticString("],\"usage\":")
        usage.write(to: &buffer)
        buffer.writeStaticString("}")
        buffer.endEvent()
    }

    /// Writes a whole answer.
    func writeAnswer(_ choices: [Delta], usage: Usage, to buffer: inout ByteBuffer) {
        buffer.writeImmutableBuffer(answerOpening)
        buffer.writeList(choices) { buffer, choice in writeChoice(choice, to: &buffer) }
        buffer.writeStaticString("],\"usage\":")
        usage.write(to: &buffer)
        buffer.writeStaticString(",\"system_fingerprint\":null,\"service_tier\":null}")
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
        buffer.writeJSON(finish.stopString)
    }
}
