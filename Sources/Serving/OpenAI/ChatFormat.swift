// The answer of /v1/chat/completions.
//
// A stream begins each choice with the role, has a chunk for each piece of text, and ends each choice with a chunk of
// its own whose delta is empty. A token that completes no text has no chunk, unless it has log-probabilities.

import NIOCore
import Scheduling
import Tokenization

/// Writes chat completions.
struct ChatFormat: ChoicesFormat {
    let chunkOpening: ByteBuffer
    let answerOpening: ByteBuffer
    let details: AnswerDetails

    init(head: AnswerHead, details: AnswerDetails) {
        chunkOpening = head.opening(object: "chat.completion.chunk")
        answerOpening = head.opening(object: "chat.completion")
        self.details = details
    }

    func writeEvents(_ delta: Delta, usage: Usage?, to buffer: inout ByteBuffer) {
        if delta.isFirst {
            writeChunk(to: &buffer, usage: usage, promptTokens: delta.promptTokens) { buffer in
                writeIndex(delta, to: &buffer)
                buffer.writeStaticString(
                    "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null")
            }
        }
        if !delta.reasoning.isEmpty {
            writeChunk(to: &buffer, usage: usage) { buffer in
                writeIndex(delta, to: &buffer)
                buffer.writeStaticString("\"delta\":{")
                writeReasoning(delta.reasoning, to: &buffer)
                buffer.writeStaticString("},\"logprobs\":null,\"finish_reason\":null")
            }
        }
        if !delta.text.isEmpty || !delta.entries.isEmpty || !delta.tokens.isEmpty {
            writeChunk(to: &buffer, usage: usage) { buffer in
                writeIndex(delta, to: &buffer)
                buffer.writeStaticString("\"delta\":{\"content\":")
                buffer.writeJSON(delta.text)
                buffer.writeStaticString("},\"logprobs\":")
                writeLogprobs(delta, to: &buffer)
                buffer.writeStaticString(",\"finish_reason\":null")
                if details.returnsTokenIDs { writeTokenIDs(delta, to: &buffer) }
            }
        }
        for event in delta.calls { writeCallChunk(event, of: delta, usage: usage, to: &buffer) }
        if let finish = delta.finish {
            writeChunk(to: &buffer, usage: usage) { buffer in
                writeIndex(delta, to: &buffer)
                buffer.writeStaticString("\"delta\":{},\"logprobs\":null,")
                writeFinish(finish, to: &buffer)
            }
        }
    }

    /// One event of a call: its beginning with an empty text of arguments, or a piece of that text.
    private func writeCallChunk(_ event: ToolCallEvent, of delta: Delta, usage: Usage?, to buffer: inout ByteBuffer) {
        let index: Int
        switch event {
        case .start(let call, _, _), .arguments(let call, _): index = call
        case .end, .content: return
        }
        writeChunk(to: &buffer, usage: usage) { buffer in
            writeIndex(delta, to: &buffer)
            buffer.writeStaticString("\"delta\":{\"tool_calls\":[{\"index\":")
            buffer.writeJSON(index)
            switch event {
            case .start(_, let id, let name):
                buffer.writeStaticString(",")
                writeCall(id: id, name: name, arguments: "", to: &buffer)
            case .arguments(_, let text):
                buffer.writeStaticString(",\"function\":{\"arguments\":")
                buffer.writeJSON(text)
                buffer.writeStaticString("}")
            case .end, .content: break
            }
            buffer.writeStaticString("}]},\"logprobs\":null,\"finish_reason\":null")
        }
    }

    /// Writes what names a call, and its arguments.
    private func writeCall(id: String, name: String, arguments: String, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("\"id\":")
        buffer.writeJSON(id)
        buffer.writeStaticString(",\"type\":\"function\",\"function\":{\"name\":")
        buffer.writeJSON(name)
        buffer.writeStaticString(",\"arguments\":")
        buffer.writeJSON(arguments)
        buffer.writeStaticString("}")
    }

    /// Writes the reasoning under both of its names.
    private func writeReasoning(_ text: String, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("\"reasoning\":")
        buffer.writeJSON(text)
        buffer.writeStaticString(",\"reasoning_content\":")
        buffer.writeJSON(text)
    }

    /// Writes the calls of a whole answer, if there are any.
    private func writeCalls(_ calls: [ToolCall], to buffer: inout ByteBuffer) {
        guard !calls.isEmpty else { return }
        buffer.writeStaticString(",\"tool_calls\":[")
        buffer.writeList(calls) { buffer, call in
            buffer.writeStaticString("{")
            writeCall(id: call.id, name: call.name, arguments: call.arguments, to: &buffer)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString("]")
    }

    func writeChoice(_ choice: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{")
        writeIndex(choice, to: &buffer)
        buffer.writeStaticString("\"message\":{\"role\":\"assistant\",\"content\":")
        let calls = ToolCall.gathered(from: choice.calls)
        let isText = !choice.text.isEmpty || (calls.isEmpty && choice.reasoning.isEmpty)
        buffer.writeJSON(isText ? choice.text : nil)
        buffer.writeStaticString(
            ",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,")
        if choice.reasoning.isEmpty {
            buffer.writeStaticString("\"reasoning\":null")
        } else {
            writeReasoning(choice.reasoning, to: &buffer)
        }
        writeCalls(calls, to: &buffer)
        buffer.writeStaticString("}")
        buffer.writeStaticString(",\"logprobs\":")
        writeLogprobs(choice, to: &buffer)
        buffer.writeStaticString(",")
        writeFinish(choice.finish, to: &buffer)
        writeTokenIDs(choice, to: &buffer)
        buffer.writeStaticString("}")
    }

    func writeTail(_ choices: [Delta], to buffer: inout ByteBuffer) {
        writePromptScores(choices.first, to: &buffer)
        buffer.writeStaticString(",\"prompt_token_ids\":")
        buffer.writeTokens(choices.first?.promptTokens)
    }

    private func writeIndex(_ delta: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("\"index\":")
        buffer.writeJSON(delta.choice)
        buffer.writeStaticString(",")
    }

    private func writeLogprobs(_ delta: Delta, to buffer: inout ByteBuffer) {
        if let logprobs = details.logprobs {
            logprobs.writeContentList(delta.entries, to: &buffer)
        } else {
            buffer.writeStaticString("null")
        }
    }
}

/// One call of a whole answer.
struct ToolCall: Sendable, Equatable {
    let id: String
    let name: String
    var arguments = ""

    /// The calls that `events` tell of, in their order.
    static func gathered(from events: [ToolCallEvent]) -> [ToolCall] {
        var calls: [ToolCall] = []
        for event in events {
            switch event {
            case .start(_, let id, let name): calls.append(ToolCall(id: id, name: name))
            case .arguments(_, let text): if !calls.isEmpty { calls[calls.count - 1].arguments += text }
            case .content, .end: break
            }
        }
        return calls
    }
}
