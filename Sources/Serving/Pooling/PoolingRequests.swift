// Requests to /v1/embeddings, /pooling, /score and /rerank, decoded and checked.

import JSON
import Scheduling
import Tokenization

/// What the endpoints that reduce prompts to vectors have in common.
enum PoolingFields {
    /// Texts of one request at most.
    static let maxInputs = 2048

    /// The names of what is done to prompts and how they are queued, which such requests have too.
    static func prompt(_ fields: JSONFields, model: ServedModel) throws(ServingError) -> PromptFields {
        var prompt = try PromptFields(fields, model: model)
        prompt.leavesRoom = false
        return prompt
    }
}

/// The form of a vector.
struct VectorShape: Sendable {
    /// Keeps the first of them; nil keeps all.
    var dimensions: Int?
    /// Whether vectors have length 1.
    var normalizes = true

    init() {}

    init(_ fields: JSONFields, model: ServedModel) throws(ServingError) {
        dimensions = try fields.integer(.dimensions, upTo: model.hiddenSize)
        normalizes = try fields.bool(.normalizes) ?? true
    }

    func callAsFunction(_ vector: [Float]) -> [Float] {
        let kept = Array(vector.prefix(dimensions ?? vector.count))
        guard normalizes else { return kept }
        let length = kept.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
        return length > 0 ? kept.map { Float(Double($0) / length) } : kept
    }
}

/// What a client of /v1/embeddings or /pooling asks for.
struct EmbeddingRequest: Sendable {
    let model: String?
    let source: PromptSource
    var prompt: PromptFields
    let shape: VectorShape
    let isBase64: Bool

    init(_ fields: JSONFields, model served: ServedModel) throws(ServingError) {
        try UnsupportedFields.check(pooling: fields)
        model = try fields.string("model")
        if fields["messages"] != nil {
            guard served.chatTemplate != nil else { throw .noChatTemplate }
            if let input = fields["input"] { throw fields.invalid("input", input, "absent where there is messages") }
            var template = try TemplateFields(fields, tools: ToolFields())
            // What is read needs nobody to answer it.
            if fields[RequestField.addsGenerationPrompt.key] == nil { template.addsGenerationPrompt = false }
            source = .conversation(try ChatMessages.read(fields), template)
        } else {
            source = .prompts(
                try CompletionRequest.prompts(
                    fields, named: "input", vocabularyCount: served.vocabularyCount, limit: PoolingFields.maxInputs))
        }
        prompt = try PoolingFields.prompt(fields, model: served)
        shape = try VectorShape(fields, model: served)
        isBase64 = try fields.text(.encodingFormat) == "base64"
    }
}

/// What a client of /score asks for: texts in pairs.
struct ScoreRequest: Sendable {
    let model: String?
    /// Those of both sides, the first side's first.
    let texts: [String]
    /// Places of each pair among them.
    let pairs: [(Int, Int)]
    var prompt: PromptFields

    /// The names that servers have for the two sides.
    private static let sides = [
        ("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"),
    ]

    init(_ fields: JSONFields, model served: ServedModel) throws(ServingError) {
        try UnsupportedFields.check(pooling: fields)
        model = try fields.string("model")
        let names = Self.sides.first { fields[$0.0] != nil && fields[$0.1] != nil } ?? Self.sides[0]
        let one = try fields.texts(names.0)
        let other = try fields.texts(names.1)
        guard one.count == 1 || one.count == other.count else {
            throw .invalidValue(
                field: names.0, value: "a list of \(one.count)",
                requirement: "one text, or as many as \(names.1), which has \(other.count)")
        }
        texts = one + other
        pairs = other.indices.map { (one.count == 1 ? 0 : $0, one.count + $0) }
        prompt = try PoolingFields.prompt(fields, model: served)
    }
}

/// What a client of /rerank asks for: documents in the order of their likeness to a query.
struct RerankRequest: Sendable {
    let model: String?
    let query: String
    let documents: [String]
    /// How many to answer with.
    let top: Int
    let showsDocuments: Bool
    var prompt: PromptFields

    init(_ fields: JSONFields, model served: ServedModel) throws(ServingError) {
        try UnsupportedFields.check(pooling: fields)
        model = try fields.string("model")
        guard let query = try fields.string("query") else {
            throw .missingField(field: "query", requirement: "a string")
        }
        guard !query.isEmpty else { throw fields.invalid("query", .string(query), "not empty") }
        self.query = query
        documents = try fields.texts("documents")
        let top = try fields.integer(.topDocuments) ?? 0
        self.top = top == 0 ? documents.count : min(top, documents.count)
        showsDocuments = try fields.bool(.returnsDocuments) ?? true
        prompt = try PoolingFields.prompt(fields, model: served)
    }
}

extension JSONFields {
    /// A text or a list of texts, each as a string or as an object with a `text`.
    fileprivate func texts(_ name: String) throws(ServingError) -> [String] {
        let requirement = "a string or a list of 1 to \(PoolingFields.maxInputs) strings"
        let elements: [JSONValue]
        switch self[name] {
        case nil: throw .missingField(field: path + name, requirement: requirement)
        case .array(let list): elements = list
        case .some(let value): elements = [value]
        }
        guard (1...PoolingFields.maxInputs).contains(elements.count) else {
            throw invalid(name, .array(elements), requirement)
        }
        var texts: [String] = []
        for (index, element) in elements.enumerated() {
            let place = elements.count == 1 ? name : "\(name).\(index)"
            var text = element
            if case .object(let members) = element, let member = members.first(where: { $0.name == "text" }) {
                text = member.value
            }
            guard case .string(let string) = text else { throw mismatch(place, element, "a string") }
            guard !string.isEmpty else { throw invalid(place, text, "not empty") }
            texts.append(string)
        }
        return texts
    }
}
