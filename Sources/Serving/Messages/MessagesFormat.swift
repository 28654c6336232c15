// The answer of /v1/messages: a message of content blocks, one each for what the model thought, said and called.
//
// A stream names its events. Blocks come one after another, each with a start, its pieces and an end; the message's own
// end says why it ended and what it cost.

import HTTPTypes
import JSON
import NIOCore

/// Writes messages.
struct MessagesFormat: AnswerFormat {
    private enum Block { case thinking, text, call }

    private let head: AnswerHead
    private var hasBegun = false
    /// The block that is being written, whose number is `blockCount` − 1.
    private var open: Block?
    private var blockCount = 0
    private var hasCalls = false
    private var finish: Finish?

    /// - Parameter head: with an id that begins with `msg_`.
    init(head: AnswerHead) { self.head = head }

    // MARK: A stream

    mutating func writeEvents(_ delta: Delta, usage: Usage?, to buffer: inout ByteBuffer) {
        begin(usage ?? Usage(), to: &buffer)
        if !delta.reasoning.isEmpty {
            continueBlock(.thinking, "\"thinking\",\"thinking\":\"\",\"signature\":\"\"", to: &buffer)
            writePiece("thinking_delta", "thinking", delta.reasoning, to: &buffer)
        }
        if !delta.text.isEmpty {
            continueBlock(.text, "\"text\",\"text\":\"\"", to: &buffer)
            writePiece("text_delta", "text", delta.text, to: &buffer)
        }
        for event in delta.calls {
            switch event {
            case .start(_, let id, let name):
                closeBlock(to: &buffer)
                writeStart(.call, to: &buffer) { buffer in
                    buffer.writeStaticString("\"tool_use\",\"id\":")
                    buffer.writeJSON(id)
                    buffer.writeStaticString(",\"name\":")
                    buffer.writeJSON(name)
                    buffer.writeStaticString(",\"input\":{}")
                }
                hasCalls = true
            case .arguments(_, let text): writePiece("input_json_delta", "partial_json", text, to: &buffer)
            case .content, .end: break
            }
        }
        if let finish = delta.finish { self.finish = finish }
    }

    mutating func writeEnd(_ usage: Usage, includesUsage: Bool, to buffer: inout ByteBuffer) {
        begin(usage, to: &buffer)
        closeBlock(to: &buffer)
        buffer.beginEvent(named: "message_delta")
        buffer.writeStaticString("{\"type\":\"message_delta\",\"delta\":{")
        writeStop(finish, hasCalls: hasCalls, to: &buffer)
        buffer.writeStaticString("},\"usage\":")
        write(usage, to: &buffer)
        buffer.writeStaticString("}")
        buffer.endEvent()
        buffer.beginEvent(named: "message_stop")
        buffer.writeStaticString("{\"type\":\"message_stop\"}")
        buffer.endEvent()
    }

    func writeFailure(_ error: ServingError, to buffer: inout ByteBuffer) {
        buffer.beginEvent(named: "error")
        OpenAIError(error.said(in: .messages)).writeMessagesBody(to: &buffer)
        buffer.endEvent()
    }

    private mutating func begin(_ usage: Usage, to buffer: inout ByteBuffer) {
        guard !hasBegun else { return }
        hasBegun = true
        buffer.beginEvent(named: "message_start")
        buffer.writeStaticString("{\"type\":\"message_start\",\"message\":")
        writeOpening(to: &buffer)
        buffer.writeStaticString("],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":")
        var usage = usage
        usage.completionTokens = 0
        write(usage, to: &buffer)
        buffer.writeStaticString("}}")
        buffer.endEvent()
    }

    private mutating func continueBlock(_ block: Block, _ empty: StaticString, to buffer: inout ByteBuffer) {
        guard open != block else { return }
        closeBlock(to: &buffer)
        writeStart(block, to: &buffer) { $0.writeStaticString(empty) }
    }

    private mutating func writeStart(
        _ block: Block, to buffer: inout ByteBuffer, _ body: (inout ByteBuffer) -> Void
    ) {
        buffer.beginEvent(named: "content_block_start")
        buffer.writeStaticString("{\"type\":\"content_block_start\",\"index\":")
        buffer.writeJSON(blockCount)
        buffer.writeStaticString(",\"content_block\":{\"type\":")
        body(&buffer)
        buffer.writeStaticString("}}")
        buffer.endEvent()
        open = block
        blockCount += 1
    }

    private func writePiece(
        _ type: StaticString, _ member: StaticString, _ text: String, to buffer: inout ByteBuffer
    ) {
        guard !text.isEmpty else { return }
        buffer.beginEvent(named: "content_block_delta")
        buffer.writeStaticString("{\"type\":\"content_block_delta\",\"index\":")
        buffer.writeJSON(blockCount - 1)
        buffer.writeStaticString(",\"delta\":{\"type\":\"")
        buffer.writeStaticString(type)
        buffer.writeStaticString("\",\"")
        buffer.writeStaticString(member)
        buffer.writeStaticString("\":")
        buffer.writeJSON(text)
        buffer.writeStaticString("}}")
        buffer.endEvent()
    }

    private mutating func closeBlock(to buffer: inout ByteBuffer) {
        guard open != nil else { return }
        buffer.beginEvent(named: "content_block_stop")
        buffer.writeStaticString("{\"type\":\"content_block_stop\",\"index\":")
        buffer.writeJSON(blockCount - 1)
        buffer.writeStaticString("}")
        buffer.endEvent()
        open = nil
    }

    // MARK: A whole answer

    func writeAnswer(_ choices: [Delta], usage: Usage, to buffer: inout ByteBuffer) {
        guard let answer = choices.first else { return }
        let calls = ToolCall.gathered(from: answer.calls)
        writeOpening(to: &buffer)
        var isFirst = true
        func separate() {
            if !isFirst { buffer.writeStaticString(",") }
            isFirst = false
        }
        if !answer.reasoning.isEmpty {
            separate()
            buffer.writeStaticString("{\"type\":\"thinking\",\"thinking\":")
            buffer.writeJSON(answer.reasoning)
            buffer.writeStaticString(",\"signature\":\"\"}")
        }
        if !answer.text.isEmpty {
            separate()
            buffer.writeStaticString("{\"type\":\"text\",\"text\":")
            buffer.writeJSON(answer.text)
            buffer.writeStaticString("}")
        }
        for call in calls {
            separate()
            buffer.writeStaticString("{\"type\":\"tool_use\",\"id\":")
            buffer.writeJSON(call.id)
            buffer.writeStaticString(",\"name\":")
            buffer.writeJSON(call.name)
            buffer.writeStaticString(",\"input\":")
            buffer.writeInput(call.arguments)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString("],")
        writeStop(answer.finish, hasCalls: !calls.isEmpty, to: &buffer)
        buffer.writeStaticString(",\"usage\":")
        write(usage, to: &buffer)
        buffer.writeStaticString("}")
    }

    // MARK: Parts of both

    /// Writes a message up to its content.
    private func writeOpening(to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"id\":")
        buffer.writeJSON(head.id)
        buffer.writeStaticString(",\"type\":\"message\",\"role\":\"assistant\",\"model\":")
        buffer.writeJSON(head.model)
        buffer.writeStaticString(",\"content\":[")
    }

    private func writeStop(_ finish: Finish?, hasCalls: Bool, to buffer: inout ByteBuffer) {
        var sequence: String?
        let reason: StaticString
        switch (finish?.reason.description, finish?.cause) {
        case ("length", _): reason = "max_tokens"
        // A deadline passed; the client may ask for the rest.
        case ("abort", _): reason = "pause_turn"
        case ("stop", .string(let text)): (reason, sequence) = ("stop_sequence", text)
        default: reason = hasCalls ? "tool_use" : "end_turn"
        }
        buffer.writeStaticString("\"stop_reason\":\"")
        buffer.writeStaticString(reason)
        buffer.writeStaticString("\",\"stop_sequence\":")
        buffer.writeJSON(sequence)
    }

    /// Prompt tokens from the cache are counted apart.
    private func write(_ usage: Usage, to buffer: inout ByteBuffer) {
        let cached = usage.cachedTokens ?? 0
        buffer.writeStaticString("{\"input_tokens\":")
        buffer.writeJSON(max(0, usage.promptTokens - cached))
        buffer.writeStaticString(",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":")
        buffer.writeJSON(cached)
        buffer.writeStaticString(",\"output_tokens\":")
        buffer.writeJSON(usage.completionTokens)
        buffer.writeStaticString("}")
    }
}

extension OpenAIError {
    /// Writes the error as /v1/messages tells of it.
    func writeMessagesBody(to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"type\":\"error\",\"error\":{\"type\":\"")
        buffer.writeStaticString(messagesType)
        buffer.writeStaticString("\",\"message\":")
        buffer.writeJSON(message)
        buffer.writeStaticString("}}")
    }

    private var messagesType: StaticString {
        switch status.code {
        case 401: "authentication_error"
        case 403: "permission_error"
        case 404: "not_found_error"
        case 413: "request_too_large"
        case 429: "rate_limit_error"
        case 503: "overloaded_error"
        case 500...: "api_error"
        default: "invalid_request_error"
        }
    }
}

extension ByteBuffer {
    fileprivate mutating func beginEvent(named name: StaticString) {
        writeStaticString("event: ")
        writeStaticString(name)
        writeStaticString("\n")
        beginEvent()
    }

    /// Writes a call's arguments, which are JSON unless the answer broke off in them.
    fileprivate mutating func writeInput(_ arguments: String) {
        guard !arguments.isEmpty else {
            writeStaticString("{}")
            return
        }
        do {
            _ = try JSONParser.parse(Array(arguments.utf8))
            writeString(arguments)
        } catch {
            writeStaticString("{\"INVALID_JSON\":")
            writeJSON(arguments)
            writeStaticString("}")
        }
    }
}
