// The answer of /v1/chat/completions.
//
// A stream begins each choice with the role, has a chunk for each piece of text, and ends each choice with a chunk of
// its own whose delta is empty. A token that completes no text has no chunk, unless it has log-probabilities.

import NIOCore
import Scheduling
import Tokenization

/// Writes chat completions.
struct ChatFormat: AnswerFormat {
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
        if let finish = delta.finish {
            writeChunk(to: &buffer, usage: usage) { buffer in
                writeIndex(delta, to: &buffer)
                buffer.writeStaticString("\"delta\":{},\"logprobs\":null,")
                writeFinish(finish, to: &buffer)
            }
        }
    }

    func writeChoice(_ choice: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{")
        writeIndex(choice, to: &buffer)
        buffer.writeStaticString("\"message\":{\"role\":\"assistant\",\"content\":")
        buffer.writeJSON(choice.text)
        buffer.writeStaticString(
            ",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,\"reasoning\":null}")
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
