// What becomes of a body without a connection and without an engine: decoded, checked and made tokens of, as its
// endpoint does before it answers. For the fuzzer, to which all of this is one function of bytes.

import Scheduling

/// The way of a request up to the engine.
package enum RequestCheck {
    /// The tokens of each prompt of a body of /v1/completions.
    package static func completion(
        _ body: [UInt8], model: ServedModel, configuration: ServingConfiguration
    ) throws(ServingError) -> [[TokenID]] {
        let fields = try JSONFields(body: body)
        let request = try CompletionRequest(fields, model: model, configuration: configuration)
        return try tokens(.prompts(request.prompts), request.promptFields, request.sampling, model, "prompt")
    }

    /// The tokens of the conversation of a body of /v1/chat/completions.
    package static func chat(
        _ body: [UInt8], model: ServedModel, configuration: ServingConfiguration
    ) throws(ServingError) -> [[TokenID]] {
        try conversation(try JSONFields(body: body), model, configuration)
    }

    /// The tokens of the conversation of a body of /v1/messages.
    package static func message(
        _ body: [UInt8], model: ServedModel, configuration: ServingConfiguration
    ) throws(ServingError) -> [[TokenID]] {
        try conversation(try MessagesRequest.chatFields(try JSONFields(body: body)), model, configuration)
    }

    private static func conversation(
        _ fields: JSONFields, _ model: ServedModel, _ configuration: ServingConfiguration
    ) throws(ServingError) -> [[TokenID]] {
        let request = try ChatRequest(fields, model: model, configuration: configuration)
        let source = PromptSource.conversation(request.messages, request.template)
        return try tokens(source, request.promptFields, request.sampling, model, "messages")
    }

    private static func tokens(
        _ source: PromptSource, _ fields: PromptFields, _ sampling: SamplingFields, _ model: ServedModel,
        _ name: String
    ) throws(ServingError) -> [[TokenID]] {
        let encoder = PromptEncoder(model: model)
        let prompts = try encoder.tokens(for: source, fields, maxTokens: sampling.maxTokens).lists
        for tokens in prompts { try encoder.checkLength(tokens, field: name) }
        let badWords = try encoder.tokens(ofBadWords: sampling.logits.badWords)
        _ = sampling.logits.rules(badWords: badWords, endTokens: model.stopTokens + sampling.stopTokens)
        return prompts
    }
}
