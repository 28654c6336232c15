// Prompts and conversations to tokens, on the tokenizer's threads, refusing what cannot fit the model before more work
// is done for it.

import Scheduling
import Tokenization

/// What a request wants answered, before it is tokens.
enum PromptSource: Sendable {
    /// Prompts of /v1/completions.
    case prompts([Prompt])
    /// The messages of a conversation.
    case conversation([TemplateValue], TemplateFields)

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
        case .conversation(let messages, _): messages.reduce(0) { $0 + 4 + $1.textBytes / 4 }
        }
    }
}

/// The prompts of a request as tokens.
struct EncodedPrompts: Sendable {
    var lists: [[TokenID]] = []
    /// What the prompts leave of the model's reasoning to come.
    var reasoning = ReasoningPrefix.none
}

/// Turns prompts into tokens.
struct PromptEncoder: Sendable {
    let model: ServedModel

    /// The tokens of each prompt, cut as its fields say.
    /// - Parameter maxTokens: what the request wants to generate, and so what must stay free of what is kept.
    func tokens(
        for source: PromptSource, _ fields: PromptFields, maxTokens: Int?
    ) throws(ServingError) -> EncodedPrompts {
        let kept = try fields.truncation.map { (truncation) throws(ServingError) in
            try keptTokens(truncation, fields, maxTokens: maxTokens)
        }
        switch source {
        case .prompts(let prompts):
            var lists: [[TokenID]] = []
            for prompt in prompts {
                switch prompt {
                case .text(let text):
                    let runs = [TextRun(text: text, allowsControlTokens: false)]
                    lists.append(
                        try tokens(of: runs, addSpecialTokens: fields.addsSpecialTokens ?? true, kept, fields))
                case .tokens(let tokens): lists.append(cut(tokens, kept, fields))
                }
            }
            return EncodedPrompts(lists: lists)
        case .conversation(let messages, let template):
            let runs = try render(messages, template)
            let tokens = try tokens(of: runs, addSpecialTokens: fields.addsSpecialTokens ?? false, kept, fields)
            return EncodedPrompts(lists: [tokens], reasoning: model.reasoning(after: runs.last?.text ?? ""))
        }
    }

    private func tokens(
        of runs: [TextRun], addSpecialTokens: Bool, _ kept: Int?, _ fields: PromptFields
    ) throws(ServingError) -> [TokenID] {
        guard kept != nil else { return try encode(runs, addSpecialTokens: addSpecialTokens) }
        return cut(try encodeAll(runs, addSpecialTokens: addSpecialTokens), kept, fields)
    }

    private func cut(_ tokens: [TokenID], _ kept: Int?, _ fields: PromptFields) -> [TokenID] {
        guard let kept, tokens.count > kept else { return tokens }
        return Array(fields.keepsEnd ? tokens.suffix(kept) : tokens.prefix(kept))
    }

    /// Tokens that `truncate_prompt_tokens` keeps.
    private func keptTokens(
        _ truncation: Int, _ fields: PromptFields, maxTokens: Int?
    ) throws(ServingError) -> Int {
        let answer = fields.leavesRoom ? min(max(1, maxTokens ?? 1), model.maxModelLength - 1) : 0
        let room = model.maxModelLength - answer
        if truncation == -1 { return room }
        guard truncation <= room else {
            throw .invalidValue(
                field: "truncate_prompt_tokens", value: "\(truncation)",
                requirement: "at most \(room), which is the context\(fields.leavesRoom ? " without max_tokens" : "")")
        }
        return truncation
    }

    /// The tokens of words that must not be generated: as they begin a text, and as they follow a space.
    func tokens(ofBadWords words: [String]) throws(ServingError) -> [[TokenID]] {
        var lists: [[TokenID]] = []
        var count = 0
        for word in words {
            let bare = word.drop { $0 == " " }
            for text in [String(bare), " " + bare] {
                let tokens = try encodeAll([TextRun(text: text, allowsControlTokens: false)], addSpecialTokens: false)
                if text.utf8.count == bare.utf8.count { count += tokens.count }
                if !tokens.isEmpty, !lists.contains(tokens) { lists.append(tokens) }
            }
        }
        guard count <= RequestField.maxBadWordTokens else {
            throw .invalidValue(
                field: "bad_words", value: "a list of \(words.count)",
                requirement: "at most \(RequestField.maxBadWordTokens) tokens in all")
        }
        return lists
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

    /// The text of a conversation; where the model is to go on with the last message, up to the end of its text.
    func render(_ messages: [TemplateValue], _ fields: TemplateFields) throws(ServingError) -> [TextRun] {
        let runs = try render(
            messages, addGenerationPrompt: fields.addsGenerationPrompt, arguments: fields.arguments,
            tools: fields.tools)
        guard fields.continuesFinalMessage else { return runs }
        guard case .object(let members) = messages.last,
            case .string(let content) = members.first(where: { $0.name == "content" })?.value,
            let cut = runs.cut(afterLast: content)
        else { throw .unfinishableMessage }
        return cut
    }

    /// The text of a conversation.
    func render(
        _ messages: [TemplateValue], addGenerationPrompt: Bool, arguments: [TemplateValue.Member] = [],
        tools: [Tool] = []
    ) throws(ServingError) -> [TextRun] {
        guard let template = model.chatTemplate else { throw .noChatTemplate }
        let knowsTools = model.templateKnowsTools
        do {
            let tokenizer = model.tokenizer
            return try template.render(
                ChatTemplateInput(
                    messages: knowsTools ? messages : ToolPrompt.rewritten(messages, tools: tools),
                    addGenerationPrompt: addGenerationPrompt,
                    bosToken: tokenizer.bos.flatMap { tokenizer.text(of: $0) } ?? "",
                    eosToken: tokenizer.eos.flatMap { tokenizer.text(of: $0) } ?? "",
                    tools: knowsTools && !tools.isEmpty ? .array(tools.map { TemplateValue($0.source) }) : nil,
                    arguments: arguments, now: TemplateClock(secondsSince1970: Int64(WallClock.seconds))))
        } catch {
            throw .template(error)
        }
    }

    /// Refuses a prompt that is empty or too long.
    /// - Parameter leavesRoom: whether there must be room for a token after it.
    func checkLength(_ tokens: [TokenID], field: String, leavesRoom: Bool = true) throws(ServingError) {
        guard !tokens.isEmpty else {
            throw .invalidValue(field: field, value: "empty", requirement: "at least one token long")
        }
        guard tokens.count + (leavesRoom ? 1 : 0) <= model.maxModelLength else {
            throw .contextExceeded(
                promptTokens: tokens.count, isAtLeast: false, maxModelLength: model.maxModelLength)
        }
    }
}

extension [TextRun] {
    /// The runs up to the end of the last occurrence of `text` in what users wrote; templates often strip messages, so
    /// spaces around it do not count. nil if there is none.
    fileprivate func cut(afterLast text: String) -> [TextRun]? {
        var bytes = Array<UInt8>(text.utf8)[...]
        while let last = bytes.last, Self.isSpace(last) { bytes.removeLast() }
        while let first = bytes.first, Self.isSpace(first) { bytes.removeFirst() }
        guard !bytes.isEmpty else { return nil }
        for index in indices.reversed() where !self[index].allowsControlTokens {
            let run = Array<UInt8>(self[index].text.utf8)
            guard let end = run.end(ofLast: Array<UInt8>(bytes)) else { continue }
            return self[..<index] + [
                TextRun(text: String(decoding: run[..<end], as: UTF8.self), allowsControlTokens: false)
            ]
        }
        return nil
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}

extension [UInt8] {
    /// Where the last occurrence of `wanted`, which is not empty, ends; in linear time, whatever the texts are.
    fileprivate func end(ofLast wanted: [UInt8]) -> Int? {
        // Knuth, Morris and Pratt from the back: the first match there is the last one here.
        let pattern = Array(wanted.reversed())
        var fallback = [Int](repeating: 0, count: pattern.count)
        var length = 0
        for index in 1..<Swift.max(1, pattern.count) {
            while length > 0 && pattern[index] != pattern[length] { length = fallback[length - 1] }
            if pattern[index] == pattern[length] { length += 1 }
            fallback[index] = length
        }
        length = 0
        for index in indices.reversed() {
            while length > 0 && self[index] != pattern[length] { length = fallback[length - 1] }
            if self[index] == pattern[length] { length += 1 }
            if length == pattern.count { return index + length }
        }
        return nil
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
