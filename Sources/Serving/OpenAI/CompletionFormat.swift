// The answer of /v1/completions.
//
// A stream has one chunk for each token, also where the token completes no character yet: load testers take each chunk
// for a token. For the same reason the finish reason comes with the last token and not in a chunk of its own.

import NIOCore
import Scheduling
import Tokenization

/// Writes text completions.
struct CompletionFormat: AnswerFormat {
    let chunkOpening: ByteBuffer
    let answerOpening: ByteBuffer
    private let logprobs: LogprobTexts?

    /// - Parameter logprobs: nil where no log-probabilities were asked for.
    init(head: AnswerHead, logprobs: LogprobTexts?) {
        chunkOpening = head.opening(object: "text_completion")
        answerOpening = head.opening(object: "text_completion")
        self.logprobs = logprobs
    }

    func writeEvents(_ delta: Delta, usage: Usage?, to buffer: inout ByteBuffer) {
        writeChunk(to: &buffer, usage: usage) { buffer in writeMembers(delta, to: &buffer) }
    }

    func writeChoice(_ choice: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{")
        writeMembers(choice, to: &buffer)
        buffer.writeStaticString("}")
    }

    private func writeMembers(_ delta: Delta, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("\"index\":")
        buffer.writeJSON(delta.choice)
        buffer.writeStaticString(",\"text\":")
        buffer.writeJSON(delta.text)
        buffer.writeStaticString(",\"logprobs\":")
        if let logprobs {
            logprobs.writeParallelLists(delta.entries, to: &buffer)
        } else {
            buffer.writeStaticString("null")
        }
        buffer.writeStaticString(",")
        writeFinish(delta.finish, to: &buffer)
    }
}
