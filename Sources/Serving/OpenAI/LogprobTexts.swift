// Log-probabilities in the shapes of the two endpoints. Tokens are shown as text, with U+FFFD where a token holds only
// part of a character; chat adds the exact bytes.

import NIOCore
import Scheduling
import Tokenization

/// Writes log-probabilities.
struct LogprobTexts: Sendable {
    let tokenizer: Tokenizer

    /// Four parallel lists, as /v1/completions has them. An alternative's text is a name in a map, so where several
    /// share one, the most likely is shown.
    func writeParallelLists(_ entries: [TokenEntry], to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"text_offset\":[")
        buffer.writeList(entries) { buffer, entry in buffer.writeJSON(entry.textOffset) }
        buffer.writeStaticString("],\"token_logprobs\":[")
        buffer.writeList(entries) { buffer, entry in buffer.writeJSON(logprob: entry.logprob) }
        buffer.writeStaticString("],\"tokens\":[")
        buffer.writeList(entries) { buffer, entry in buffer.writeJSON(text(entry.token)) }
        buffer.writeStaticString("],\"top_logprobs\":[")
        buffer.writeList(entries) { buffer, entry in writeMap(entry, to: &buffer) }
        buffer.writeStaticString("]}")
    }

    private func writeMap(_ entry: TokenEntry, to buffer: inout ByteBuffer) {
        var shown: [(text: String, logprob: Float)] = []
        for alternative in entry.alternatives + [TokenLogprob(token: entry.token, logprob: entry.logprob)] {
            let text = text(alternative.token)
            if !shown.contains(where: { $0.text == text }) { shown.append((text, alternative.logprob)) }
        }
        buffer.writeStaticString("{")
        buffer.writeList(shown) { buffer, alternative in
            buffer.writeJSON(alternative.text)
            buffer.writeStaticString(":")
            buffer.writeJSON(logprob: alternative.logprob)
        }
        buffer.writeStaticString("}")
    }

    /// One object for each token, as /v1/chat/completions has them.
    func writeContentList(_ entries: [TokenEntry], to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"content\":[")
        buffer.writeList(entries) { buffer, entry in
            writeMembers(entry.token, entry.logprob, to: &buffer)
            buffer.writeStaticString(",\"top_logprobs\":[")
            buffer.writeList(entry.alternatives) { buffer, alternative in
                writeMembers(alternative.token, alternative.logprob, to: &buffer)
                buffer.writeStaticString("}")
            }
            buffer.writeStaticString("]}")
        }
        buffer.writeStaticString("]}")
    }

    private func writeMembers(_ token: TokenID, _ logprob: Float, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"token\":")
        buffer.writeJSON(text(token))
        buffer.writeStaticString(",\"logprob\":")
        buffer.writeJSON(logprob: logprob)
        buffer.writeStaticString(",\"bytes\":[")
        buffer.writeList(tokenizer.bytes(of: token) ?? []) { buffer, byte in buffer.writeJSON(Int(byte)) }
        buffer.writeStaticString("]")
    }

    private func text(_ token: TokenID) -> String { tokenizer.text(of: token) ?? "" }
}
