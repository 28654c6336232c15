// The answer of /v1/completions.
//
// A stream has one chunk for each token, also where the token completes no character yet: load testers take each chunk
// for a token. For the same reason the finish reason comes with the last token and not in a chunk of its own.

import NIOCore
import Scheduling
import Tokenization

/// Writes text completions.
struct CompletionFormat: ChoicesFormat {
    let chunkOpening: ByteBuffer
    let answerOpening: ByteBuffer
    let details: AnswerDetails

    init(head: AnswerHead, details: AnswerDetails) {
        chunkOpening = head.opening(object: "text_completion")
        answerOpening = head.opening(object: "text_completion")
        self.details = details
    }

    func writeEvents(_ delta: Delta, usage: Usage?, to buffer: inout ByteBuffer) {
        writeChunk(to: &buffer, usage: usage) { buffer in
            writeMembers(delta, to: &buffer)
            guard details.returnsTokenIDs else { return }
            if let tokens = delta.promptTokens {
                buffer.writeStaticString(",\"prompt_token_ids\":")
                buffer.writeTokens(tokens)
            }
            writeTokenIDs(delta, to: &buffer)
        }
    }

    func writeChoice(_ choice: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{")
        writeMembers(choice, to: &buffer)
        writePromptScores(choice, to: &buffer)
        writeTokenIDs(choice, to: &buffer)
        buffer.writeStaticString(",\"prompt_token_ids\":")
        buffer.writeTokens(choice.promptTokens)
        buffer.writeStaticString("}")
    }

    func writeTail(_ choices: [Delta], to buffer: inout ByteBuffer) {}

    private func writeMembers(_ delta: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("\"index\":")
        buffer.writeJSON(delta.choice)
        buffer.writeStaticString(",\"text\":")
        buffer.writeJSON(delta.text)
        buffer.writeStaticString(",\"logprobs\":")
        if let logprobs = details.logprobs {
            logprobs.writeParallelLists(delta.entries, to: &buffer)
        } else {
            buffer.writeStaticString("null")
        }
        buffer.writeStaticString(",")
        writeFinish(delta.finish, to: &buffer)
    }
}
