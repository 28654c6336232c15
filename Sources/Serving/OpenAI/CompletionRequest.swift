// A request to /v1/completions, decoded and checked.

import JSON
import Scheduling

/// One prompt: text to be tokenized, or tokens.
enum Prompt: Sendable {
    case text(String)
    case tokens([TokenID])

    /// About how many tokens it will be, before tokenizing.
    var tokenEstimate: Int {
        switch self {
        case .text(let text): max(1, text.utf8.count / 4)
        case .tokens(let tokens): tokens.count
        }
    }
}

/// What a client of /v1/completions asks for.
struct CompletionRequest: Sendable {
    let model: String?
    let prompts: [Prompt]
    let sampling: SamplingFields
    let streaming: StreamFields
    let answer: AnswerFields
    var promptFields: PromptFields
    let output: OutputFields

    /// Prompts of one request at most, whatever the configuration says.
    static let maxPrompts = 1024

    init(_ fields: JSONFields, model served: ServedModel, configuration: ServingConfiguration) throws(ServingError) {
        try UnsupportedFields.check(fields, isChat: false)
        model = try fields.string("model")
        prompts = try Self.prompts(
            fields, named: "prompt", vocabularyCount: served.vocabularyCount,
            limit: min(Self.maxPrompts, configuration.maxPrompts))
        streaming = try StreamFields(fields)
        answer = try AnswerFields(fields, isStreamed: streaming.isStreamed)
        let maxTokens =
            try SamplingFields.maxTokens(fields, allowsZero: answer.echoes)
            ?? configuration.defaults.maxCompletionTokens
        sampling = try SamplingFields(
            fields, maxTokens: maxTokens, logprobs: try fields.integer(.logprobs), model: served,
            configuration: configuration)
        promptFields = try PromptFields(fields, model: served)
        output = OutputFields(shape: try ShapeFields(fields))
    }

    /// The prompts, in any of the four shapes.
    static func prompts(
        _ fields: JSONFields, named field: String, vocabularyCount: Int, limit: Int
    ) throws(ServingError) -> [Prompt] {
        let shapes = "a string, a list of strings, a list of token ids or a list of such lists"
        switch fields[field] {
        case nil: throw .missingField(field: field, requirement: shapes)
        case .string(let text):
            return [try prompt(text, field, fields)]
        case .array(let elements):
            guard let first = elements.first else { throw fields.invalid(field, .array([]), "not empty") }
            if first.isNumber { return [.tokens(try tokens(elements, field, fields, vocabularyCount))] }
            guard elements.count <= limit else {
                throw fields.invalid(field, .array(elements), "a list of at most \(limit) prompts")
            }
            var prompts: [Prompt] = []
            for (index, element) in elements.enumerated() {
                let name = "\(field).\(index)"
                switch element {
                case .string(let text): prompts.append(try prompt(text, name, fields))
                case .array(let ids): prompts.append(.tokens(try tokens(ids, name, fields, vocabularyCount)))
                default: throw fields.mismatch(name, element, "a string or a list of token ids")
                }
            }
            return prompts
        case .some(let value): throw fields.mismatch(field, value, shapes)
        }
    }

    private static func prompt(_ text: String, _ name: String, _ fields: JSONFields) throws(ServingError) -> Prompt {
        guard !text.isEmpty else { throw fields.invalid(name, .string(""), "not empty") }
        return .text(text)
    }

    /// Token ids that all are in the vocabulary; at least one. Also used by /detokenize.
    static func tokens(
        _ elements: [JSONValue], _ name: String, _ fields: JSONFields, _ vocabularyCount: Int
    ) throws(ServingError) -> [TokenID] {
        guard !elements.isEmpty else { throw fields.invalid(name, .array([]), "not empty") }
        var tokens: [TokenID] = []
        tokens.reserveCapacity(elements.count)
        let requirement = "made of token ids from 0 to \(vocabularyCount - 1)"
        for element in elements {
            guard element.isNumber else { throw fields.mismatch(name, element, requirement) }
            guard let id = element.exactInteger, (0..<vocabularyCount).contains(id), let token = TokenID(exactly: id)
            else { throw fields.invalid(name, element, requirement) }
            tokens.append(token)
        }
        return tokens
    }
}

extension JSONValue {
    /// Whether this is an integer or another number.
    var isNumber: Bool {
        switch self {
        case .integer, .number: true
        default: false
        }
    }
}
