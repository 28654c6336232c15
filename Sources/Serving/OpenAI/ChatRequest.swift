// A request to /v1/chat/completions, decoded and checked.

import JSON
import Tokenization

/// What a client of /v1/chat/completions asks for.
struct ChatRequest: Sendable {
    let model: String?
    /// The conversation as the template's `messages`.
    let messages: [TemplateValue]
    let sampling: SamplingFields
    let streaming: StreamFields
    let answer: AnswerFields
    var promptFields: PromptFields
    let template: TemplateFields
    let output: OutputFields

    init(_ fields: JSONFields, model served: ServedModel, configuration: ServingConfiguration) throws(ServingError) {
        try UnsupportedFields.check(fields, isChat: true)
        model = try fields.string("model")
        messages = try ChatMessages.read(fields)
        let wantsLogprobs = try fields.bool(.chatLogprobs) ?? false
        let topLogprobs = try fields.integer(.topLogprobs)
        if let topLogprobs, topLogprobs > 0, !wantsLogprobs {
            throw .invalidValue(
                field: "top_logprobs", value: "\(topLogprobs)", requirement: "absent unless logprobs is true")
        }
        sampling = try SamplingFields(
            fields, maxTokens: SamplingFields.maxTokens(fields), logprobs: wantsLogprobs ? topLogprobs ?? 0 : nil,
            model: served, configuration: configuration)
        streaming = try StreamFields(fields)
        answer = try AnswerFields(fields, isStreamed: streaming.isStreamed)
        promptFields = try PromptFields(fields, model: served)
        output = try OutputFields(fields)
        template = try TemplateFields(fields, tools: output.tools)
    }

    /// What `echo` puts in front: the last message, where the answer goes on with it.
    var echo: String? {
        guard answer.echoes, case .object(let members) = messages.last,
            members.contains(where: { $0.name == "role" && $0.value == .string("assistant") }),
            case .string(let text) = members.first(where: { $0.name == "content" })?.value
        else { return nil }
        return text
    }
}

/// How a conversation is rendered.
struct TemplateFields: Sendable {
    /// Whether the template begins the assistant's turn.
    var addsGenerationPrompt = true
    /// Whether the rendering ends with the last message's text.
    var continuesFinalMessage = false
    /// Further names for the template.
    var arguments: [TemplateValue.Member] = []
    /// The functions that the model is told of.
    var tools: [Tool] = []

    init() {}

    init(_ fields: JSONFields, tools: ToolFields) throws(ServingError) {
        self.tools = tools.choice == .none ? [] : tools.tools
        continuesFinalMessage = try fields.bool(.continuesFinalMessage) ?? false
        let addsGenerationPrompt = try fields.bool(.addsGenerationPrompt)
        if continuesFinalMessage, addsGenerationPrompt == true {
            throw .invalidValue(
                field: "continue_final_message", value: "true",
                requirement: "false where add_generation_prompt is true")
        }
        self.addsGenerationPrompt = addsGenerationPrompt ?? !continuesFinalMessage
        arguments = (try fields.object(.templateArguments)?.members ?? []).map {
            TemplateValue.Member($0.name, TemplateValue($0.value))
        }
        if let effort = try fields.text(.reasoningEffort) {
            addArgument("reasoning_effort", .string(effort))
            if effort == "none" { addArgument("enable_thinking", .bool(false)) }
        }
        if let documents = try fields.objects(.documents), !documents.isEmpty {
            addArgument("documents", TemplateValue(.array(documents)))
        }
    }

    /// Gives the template a name that `chat_template_kwargs` did not give it.
    private mutating func addArgument(_ name: String, _ value: TemplateValue) {
        guard !arguments.contains(where: { $0.name == name }) else { return }
        arguments.append(TemplateValue.Member(name, value))
    }
}
