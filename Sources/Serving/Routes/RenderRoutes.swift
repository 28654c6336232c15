// /v1/completions/render and /v1/chat/completions/render: what the model would go on from, without asking it. Routers
// choose a server by these tokens, so they come from the code that generates.

import Hummingbird
import NIOCore
import Scheduling
import Tokenization

extension Router {
    /// POST /v1/completions/render: one element for each prompt.
    func renderCompletion(_ call: Call) async throws -> Response {
        let fields = try await state.bodies.fields(of: call.request)
        let request = try CompletionRequest(fields, model: state.model, configuration: state.configuration)
        let rendered = try await render(
            .prompts(request.prompts), request.promptFields, request.sampling, request.answer,
            head: RenderHead(
                id: "cmpl-" + call.label.base(request.promptFields), model: try state.resolve(model: request.model),
                isStreamed: request.streaming.isStreamed), isList: true)
        return Response(json: rendered)
    }

    /// POST /v1/chat/completions/render.
    func renderChat(_ call: Call) async throws -> Response {
        let (request, session) = try conversation(try await state.bodies.fields(of: call.request), call)
        let rendered = try await render(
            session.source, request.promptFields, request.sampling, request.answer,
            head: RenderHead(
                id: "chatcmpl-" + call.label.base(request.promptFields), model: try state.resolve(model: request.model),
                isStreamed: request.streaming.isStreamed), isList: false)
        return Response(json: rendered)
    }

    private func render(
        _ source: PromptSource, _ prompt: PromptFields, _ sampling: SamplingFields, _ answer: AnswerFields,
        head: RenderHead, isList: Bool
    ) async throws(ServingError) -> ByteBuffer {
        let (encoder, model) = (state.encoder, state.model)
        return try await state.threads.runUnqueued { () throws(ServingError) in
            let lists = try encoder.tokens(for: source, prompt, maxTokens: sampling.maxTokens).lists
            var texts: [String] = []
            for tokens in lists {
                try encoder.checkLength(tokens, field: isList ? "prompt" : "messages")
                do throws(TokenizationError) {
                    texts.append(try model.tokenizer.decode(tokens))
                } catch {
                    throw .tokenization(error)
                }
            }
            var buffer = ByteBuffer()
            if isList { buffer.writeStaticString("[") }
            buffer.writeList(zip(lists, texts).enumerated()) { buffer, element in
                let (tokens, text) = element.element
                let room = model.maxModelLength - tokens.count
                let id = lists.count == 1 ? head.id : "\(head.id)-\(element.offset)"
                head.write(id, tokens, text, to: &buffer)
                sampling.write(maxTokens: min(sampling.maxTokens ?? room, room), answer, to: &buffer)
                buffer.writeStaticString(",\"priority\":")
                buffer.writeJSON(prompt.priority)
                buffer.writeStaticString("}")
            }
            if isList { buffer.writeStaticString("]") }
            return buffer
        }
    }
}

/// What is the same for all prompts of a request that is rendered.
private struct RenderHead: Sendable {
    let id: String
    let model: String
    let isStreamed: Bool

    /// Writes an object up to its sampling parameters.
    func write(_ id: String, _ tokens: [TokenID], _ text: String, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"request_id\":")
        buffer.writeJSON(id)
        buffer.writeStaticString(",\"model\":")
        buffer.writeJSON(model)
        buffer.writeStaticString(",\"token_ids\":[")
        buffer.writeList(tokens) { $0.writeJSON(Int($1)) }
        buffer.writeStaticString("],\"prompt\":")
        buffer.writeJSON(text)
        buffer.writeStaticString(",\"features\":null,\"stream\":")
        buffer.writeJSON(isStreamed)
        buffer.writeStaticString(",\"sampling_params\":")
    }
}

extension SamplingFields {
    /// Writes them by the names that they came by, defaults included.
    fileprivate func write(maxTokens: Int, _ answer: AnswerFields, to buffer: inout ByteBuffer) {
        var isFirst = true
        func member(_ field: RequestField, _ write: (inout ByteBuffer) -> Void) {
            buffer.writeStaticString(isFirst ? "{" : ",")
            isFirst = false
            buffer.writeJSON(field.key)
            buffer.writeStaticString(":")
            write(&buffer)
        }
        func number(_ field: RequestField, _ value: some CustomStringConvertible) {
            member(field) { $0.writeString(value.description) }
        }
        number(.n, n)
        number(.maxTokens, maxTokens)
        number(.minTokens, logits.minTokens)
        number(.temperature, temperature)
        number(.topP, topP)
        number(.topK, topK)
        number(.minP, minP)
        number(.presencePenalty, logits.presencePenalty)
        number(.frequencyPenalty, logits.frequencyPenalty)
        number(.repetitionPenalty, logits.repetitionPenalty)
        if let seed { number(.seed, Int64(bitPattern: seed)) } else { number(.seed, "null") }
        member(.stop) { buffer in
            buffer.writeStaticString("[")
            buffer.writeList(stop) { $0.writeJSON($1) }
            buffer.writeStaticString("]")
        }
        member(.stopTokens) { buffer in
            buffer.writeStaticString("[")
            buffer.writeList(stopTokens) { $0.writeJSON(Int($1)) }
            buffer.writeStaticString("]")
        }
        number(.includesStop, answer.includesStop)
        number(.ignoreEOS, ignoreEOS)
        number(.skipsSpecialTokens, answer.skipsSpecialTokens)
        number(.logprobs, logprobs.map(String.init) ?? "null")
        number(.promptLogprobs, answer.promptLogprobs.map(String.init) ?? "null")
        buffer.writeStaticString("}")
    }
}
