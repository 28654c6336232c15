// /tokenize and /detokenize: what the model sees of a text, for counting and for load testers.

import Hummingbird
import NIOCore
import Tokenization

extension Router {
    /// POST /tokenize: `prompt` or `messages` to tokens.
    func tokenize(_ call: Call) async throws -> Response {
        let fields = try await state.bodies.fields(of: call.request)
        _ = try state.resolve(model: try fields.string("model"))
        let addSpecialTokens = try fields.bool("add_special_tokens")
        let returnsStrings = try fields.bool("return_token_strs") ?? false
        let encoder = state.encoder
        let tokens: [Int32]
        if fields["messages"] != nil {
            let messages = try ChatMessages.read(fields)
            let template = try TemplateFields(fields, tools: try ToolFields(fields))
            tokens = try await state.threads.runUnqueued { () throws(ServingError) in
                let runs = try encoder.render(messages, template)
                return try encoder.encodeAll(runs, addSpecialTokens: addSpecialTokens ?? false)
            }
        } else {
            guard let prompt = try fields.string("prompt") else {
                throw ServingError.missingField(field: "prompt", requirement: "a string, unless messages is given")
            }
            tokens = try await state.threads.runUnqueued { () throws(ServingError) in
                try encoder.encodeAll(
                    [TextRun(text: prompt, allowsControlTokens: false)], addSpecialTokens: addSpecialTokens ?? true)
            }
        }
        return Response(json: tokenizeAnswer(tokens, returnsStrings: returnsStrings))
    }

    private func tokenizeAnswer(_ tokens: [Int32], returnsStrings: Bool) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeStaticString("{\"count\":")
        body.writeJSON(tokens.count)
        body.writeStaticString(",\"max_model_len\":")
        body.writeJSON(state.model.maxModelLength)
        body.writeStaticString(",\"tokens\":[")
        body.writeList(tokens) { buffer, token in buffer.writeJSON(Int(token)) }
        body.writeStaticString("],\"token_strs\":")
        if returnsStrings {
            body.writeStaticString("[")
            body.writeList(tokens) { buffer, token in buffer.writeJSON(state.model.tokenizer.text(of: token)) }
            body.writeStaticString("]}")
        } else {
            body.writeStaticString("null}")
        }
        return body
    }

    /// POST /detokenize: `tokens` to text.
    func detokenize(_ call: Call) async throws -> Response {
        let fields = try await state.bodies.fields(of: call.request)
        _ = try state.resolve(model: try fields.string("model"))
        guard let elements = try fields.array("tokens", orElse: "a list of token ids") else {
            throw ServingError.missingField(field: "tokens", requirement: "a list of token ids")
        }
        let tokens =
            elements.isEmpty
            ? [] : try CompletionRequest.tokens(elements, "tokens", fields, state.model.vocabularyCount)
        let tokenizer = state.model.tokenizer
        let text = try await state.threads.runUnqueued { () throws(ServingError) in
            do throws(TokenizationError) {
                return try tokenizer.decode(tokens)
            } catch {
                throw .tokenization(error)
            }
        }
        var body = ByteBuffer()
        body.writeStaticString("{\"prompt\":")
        body.writeJSON(text)
        body.writeStaticString("}")
        return Response(json: body)
    }
}
