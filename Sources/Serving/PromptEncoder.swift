// Prompts and conversations to tokens, on the tokenizer's threads, refusing what cannot fit the model before more work
// is done for it.

import Scheduling
import Tokenization

/// What a request wants answered, before it is tokens.
enum PromptSource: Sendable {
    /// Prompts of /v1/completions.
    case prompts([Prompt])
    /// The messages of a conversation.
    case conversation([TemplateValue])

    /// How many prompts.
    var count: Int {
        switch self {
        case .prompts(let prompts): prompts.count
        case .conversation: 1
        }
    }

    /// About how many tokens in all, before tokenizing.
    var tokenEstimate: Int {
        switch self {
        case .prompts(let prompts): prompts.reduce(0) { $0 + $1.tokenEstimate }
        case .conversation(let messages): messages.reduce(0) { $0 + 4 + $1.textBytes / 4 }
        }
    }
}

/// Turns prompts into tokens.
struct PromptEncoder: Sendable {
    let model: ServedModel

    /// The tokens of each prompt.
    func tokens(for source: PromptSource) throws(ServingError) -> [[TokenID]] {
        switch source {
        case .prompts(let prompts):
            var lists: [[TokenID]] = []
            for prompt in prompts {
                switch prompt {
                case .text(let text):
                    lists.append(
                        try encode([TextRun(text: text, allowsControlTokens: false)], addSpecialTokens: true))
                case .tokens(let tokens): lists.append(tokens)
                }
            }
            return lists
        case .conversation(let messages):
            return [try encode(try render(messages, addGenerationPrompt: true), addSpecialTokens: false)]
        }
    }

    /// The tokens of `runs`; at most one more than fit the model is made of them.
    func encode(_ runs: [TextRun], addSpecialTokens: Bool) throws(ServingError) -> [TokenID] {
        do {
            return try model.tokenizer.encode(
                runs, addSpecialTokens: addSpecialTokens, maxTokens: model.maxModelLength)
        } catch TokenizationError.tooManyTokens(let limit) {
            throw .contextExceeded(promptTokens: limit + 1, isAtLeast: true, maxModelLength: model.maxModelLength)
        } catch {
            throw .tokenization(error)
        }
    }

    /// The tokens of `runs`, whether or not they fit the model.
    func encodeAll(_ runs: [TextRun], addSpecialTokens: Bool) throws(ServingError) -> [TokenID] {
        do {
            return try model.tokenizer.encode(runs, addSpecialTokens: addSpecialTokens)
        } catch {
            throw .tokenization(error)
        }
    }

    /// The text of a conversation.
    func render(_ messages: [TemplateValue], addGenerationPrompt: Bool) throws(ServingError) -> [TextRun] {
        guard let template = model.chatTemplate else { throw .noChatTemplate }
        do {
            let tokenizer = model.tokenizer
            return try template.render(
                ChatTemplateInput(
                    messages: messages, addGenerationPrompt: addGenerationPrompt,
                    bosToken: tokenizer.bos.flatMap { tokenizer.text(of: $0) } ?? "",
                    eosToken: tokenizer.eos.flatMap { tokenizer.text(of: $0) } ?? "",
                    now: TemplateClock(secondsSince1970: Int64(WallClock.seconds))))
        } catch {
            throw .template(error)
        }
    }

    /// Refuses a prompt that is empty or leaves no room for a token.
    func checkLength(_ tokens: [TokenID], field: String) throws(ServingError) {
        guard !tokens.isEmpty else {
            throw .invalidValue(field: field, value: "empty", requirement: "at least one token long")
        }
        guard tokens.count < model.maxModelLength else {
            throw .contextExceeded(
                promptTokens: tokens.count, isAtLeast: false, maxModelLength: model.maxModelLength)
        }
    }
}

extension TemplateValue {
    /// Bytes of all strings in it.
    fileprivate var textBytes: Int {
        switch self {
        case .string(let text): text.utf8.count
        case .array(let elements): elements.reduce(0) { $0 + $1.textBytes }
        case .object(let members): members.reduce(0) { $0 + $1.value.textBytes }
        case .null, .bool, .int, .float: 0
        }
    }
}
