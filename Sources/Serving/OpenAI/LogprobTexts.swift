// Log-probabilities in the shapes of the two endpoints. Tokens are shown as text, with U+FFFD where a token holds only
// part of a character; chat adds the exact bytes.

import NIOCore
import Scheduling
import Tokenization

/// Writes log-probabilities.
struct LogprobTexts: Sendable {
    let tokenizer: Tokenizer
    /// Whether tokens are named by id.
    var showsTokenIDs = false

    /// Four parallel lists, as /v1/completions has them. An alternative's text is a name in a map, so where several
    /// share one, the most likely is shown.
    func writeParallelLists(_ entries: [TokenEntry], to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"text_offset\":[")
        buffer.writeList(entries) { buffer, entry in buffer.writeJSON(entry.textOffset) }
        buffer.writeStaticString("],\"token_logprobs\":[")
        buffer.writeList(entries) { buffer, entry in
            if let logprob = entry.logprob {
                buffer.writeJSON(logprob: logprob)
            } else {
                buffer.writeStaticString("null")
            }
        }
        buffer.writeStaticString("],\"tokens\":[")
        buffer.writeList(entries) { buffer, entry in buffer.writeJSON(text(entry.token)) }
        buffer.writeStaticString("],\"top_logprobs\":[")
        buffer.writeList(entries) { buffer, entry in writeMap(entry, to: &buffer) }
        buffer.writeStaticString("]}")
    }

    private func writeMap(_ entry: TokenEntry, to buffer: inout ByteBuffer) {
        guard let logprob = entry.logprob else {
            buffer.writeStaticString("null")
            return
        }
        var shown: [(text: String, logprob: Float)] = []
        for alternative in entry.alternatives + [TokenLogprob(token: entry.token, logprob: logprob)] {
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
        buffer.writeStaticString("{\"content\":")
        writeList(entries, to: &buffer)
        buffer.writeStaticString("}")
    }

    /// The list alone.
    func writeList(_ entries: [TokenEntry], to buffer: inout ByteBuffer) {
        buffer.writeStaticString("[")
        buffer.writeList(entries) { buffer, entry in
            writeMembers(entry.token, entry.logprob ?? 0, to: &buffer)
            buffer.writeStaticString(",\"top_logprobs\":[")
            buffer.writeList(entry.alternatives) { buffer, alternative in
                writeMembers(alternative.token, alternative.logprob, to: &buffer)
                buffer.writeStaticString("}")
            }
            buffer.writeStaticString("]}")
        }
        buffer.writeStaticString("]")
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

    /// What /v1 calls `prompt_logprobs`: null for the first token, and for each other one an object from token ids to
    /// what is known of them: the token itself and the most likely ones.
    func writePromptList(_ scores: [TokenSample], to buffer: inout ByteBuffer) {
        buffer.writeStaticString("[null")
        for score in scores {
            buffer.writeStaticString(",{")
            var shown = score.topLogprobs.enumerated().map { (logprob: $0.element, rank: $0.offset + 1) }
            if !shown.contains(where: { $0.logprob.token == score.token }) {
                shown.insert((TokenLogprob(token: score.token, logprob: score.logprob), score.rank), at: 0)
            }
            buffer.writeList(shown) { buffer, entry in
                buffer.writeJSON(String(entry.logprob.token))
                buffer.writeStaticString(":{\"logprob\":")
                buffer.writeJSON(logprob: entry.logprob.logprob)
                buffer.writeStaticString(",\"rank\":")
                if entry.rank > 0 { buffer.writeJSON(entry.rank) } else { buffer.writeStaticString("null") }
                buffer.writeStaticString(",\"decoded_token\":")
                buffer.writeJSON(text(entry.logprob.token))
                buffer.writeStaticString("}")
            }
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString("]")
    }

    private func text(_ token: TokenID) -> String {
        showsTokenIDs ? "token_id:\(token)" : tokenizer.text(of: token) ?? ""
    }
}
