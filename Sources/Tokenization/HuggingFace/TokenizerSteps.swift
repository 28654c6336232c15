// The steps of tokenizer.json as the pipeline has them: normalizer, pre-tokenizer, post-processor and decoder, each a
// tree of named kinds. A kind that is not here is refused by its name, and so is a regular expression that is not one
// of those known: none from a file is ever executed.

import JSON

/// Reads the trees of one tokenizer.json.
struct TokenizerSteps {
    /// Sequences inside one another.
    private static let maxDepth = 8
    /// Steps of one kind altogether.
    private static let maxSteps = 32
    /// The longest string that a step may put into text, in bytes.
    private static let maxInsertBytes = 64

    let file: String

    func pipeline(
        modelType: String, normalizer: JSONValue, preTokenizer: JSONValue, postProcessor: JSONValue, decoder: JSONValue
    ) throws(TokenizationError) -> TokenizerPipeline {
        guard ["BPE", "Unigram"].contains(modelType) else {
            throw .malformedFile(
                file: file, field: "model.type",
                reason: "is \(JSONValue.quoted(modelType)), which is not supported; BPE and Unigram are.")
        }
        var pipeline = TokenizerPipeline(modelType == "Unigram" ? .unigram : .characterMerges)
        for step in try flattened(normalizer, "normalizer", "normalizers") {
            try append(normalizer: step, to: &pipeline)
        }
        var spellsBytes = false
        for step in try flattened(preTokenizer, "pre_tokenizer", "pretokenizers") {
            guard !spellsBytes else {
                throw step.malformed(nil, "follows ByteLevel, which must be the last to cut.")
            }
            try append(preTokenizer: step, to: &pipeline)
            spellsBytes = step.kind == "ByteLevel"
        }
        if spellsBytes {
            guard pipeline.algorithm == .characterMerges else {
                throw .malformedFile(
                    file: file, field: "pre_tokenizer", reason: "is ByteLevel, which is supported with BPE only.")
            }
            pipeline.algorithm = .byteMerges
        }
        for step in try flattened(postProcessor, "post_processor", "processors") {
            try append(postProcessor: step, to: &pipeline)
        }
        try read(decoder: flattened(decoder, "decoder", "decoders"), into: &pipeline)
        return pipeline
    }

    /// The steps of a tree in order, sequences resolved.
    private func flattened(
        _ tree: JSONValue, _ field: String, _ list: String
    ) throws(TokenizationError) -> [TokenizerFields] {
        var steps: [TokenizerFields] = []
        try flatten(tree, field, list, depth: 0, into: &steps)
        return steps
    }

    private func flatten(
        _ tree: JSONValue, _ field: String, _ list: String, depth: Int, into steps: inout [TokenizerFields]
    ) throws(TokenizationError) {
        if case .null = tree { return }
        let fields = TokenizerFields(tree, file: file, field: field)
        guard case .object = tree, case .string = fields["type"] else {
            throw .malformedFile(file: file, field: field, reason: "is not an object with a type.")
        }
        guard fields.kind == "Sequence" else {
            steps.append(fields)
            guard steps.count <= Self.maxSteps else {
                throw fields.malformed(nil, "is one of more than \(Self.maxSteps) steps.")
            }
            return
        }
        guard depth < Self.maxDepth else { throw fields.malformed(nil, "is nested too deep.") }
        guard case .array(let elements) = fields[list] else { throw fields.malformed(list, "is not a list.") }
        for (index, element) in elements.enumerated() {
            try flatten(element, "\(field).\(list)[\(index)]", list, depth: depth + 1, into: &steps)
        }
    }

    // MARK: Normalizers

    private func append(
        normalizer step: TokenizerFields, to pipeline: inout TokenizerPipeline
    ) throws(TokenizationError) {
        switch step.kind {
        case "NFC", "NFD", "NFKC", "NFKD":
            if let form = NormalizationForm(rawValue: step.kind) { pipeline.normalization.append(.form(form)) }
        case "Lowercase": pipeline.normalization.append(.lowercase)
        case "Strip":
            pipeline.normalization.append(
                .strip(left: try step.flag("strip_left"), right: try step.flag("strip_right")))
        case "Prepend": pipeline.normalization.append(.prepend(try insert(step, "prepend")))
        case "Replace":
            let content = try insert(step, "content")
            switch try pattern(step) {
            case .string(let pattern): pipeline.normalization.append(.replace(Replacement(pattern, by: content)))
            case .expression(" {2,}"): pipeline.normalization.append(.replaceSpaceRuns(content))
            case .expression(let source): throw unknownExpression(step, source)
            }
        default: throw step.unsupported()
        }
    }

    /// A string that goes into every text.
    private func insert(_ step: TokenizerFields, _ name: String) throws(TokenizationError) -> [UInt8] {
        let bytes = try step.bytes(name)
        guard bytes.count <= Self.maxInsertBytes else {
            throw step.malformed(name, "has \(bytes.count) bytes; at most \(Self.maxInsertBytes) are accepted.")
        }
        return bytes
    }

    private enum Pattern {
        case string([UInt8])
        case expression(String)
    }

    private func pattern(_ step: TokenizerFields) throws(TokenizationError) -> Pattern {
        let pattern = TokenizerFields(step["pattern"], file: file, field: step.field + ".pattern")
        if case .string(let text) = pattern["String"], !text.isEmpty { return .string(Array(text.utf8)) }
        if case .string(let source) = pattern["Regex"] { return .expression(source) }
        throw step.malformed("pattern", "is neither a String that is not empty nor a Regex.")
    }

    private func unknownExpression(_ step: TokenizerFields, _ source: String) -> TokenizationError {
        step.malformed(
            "pattern.Regex",
            "is \(JSONValue.quoted(source)), which is not one of the expressions known; none is executed.")
    }

    // MARK: Pre-tokenizers

    private func append(
        preTokenizer step: TokenizerFields, to pipeline: inout TokenizerPipeline
    ) throws(TokenizationError) {
        switch step.kind {
        case "ByteLevel":
            if try step.flag("add_prefix_space", default: true) {
                try open(.prependUnlessThere([0x20], .all), step, &pipeline)
            }
            if try step.flag("use_regex", default: true) { appendGPT2(to: &pipeline) }
        case "Digits":
            let isolates = try step.flag("individual_digits")
            pipeline.cuts.append(.characters(.digits, isolates ? .isolated : .contiguous))
        case "Punctuation": pipeline.cuts.append(.characters(.punctuation, try delimiter(step)))
        case "Whitespace": pipeline.cuts.append(.words)
        case "WhitespaceSplit": pipeline.cuts.append(.characters(.whitespace, .removed))
        case "Metaspace": try appendMetaspace(step, to: &pipeline)
        case "Split":
            guard try !step.flag("invert") else { throw step.malformed("invert", "is true, which is not supported.") }
            switch try pattern(step) {
            case .string(let string): pipeline.cuts.append(.string(string, try delimiter(step)))
            case .expression(let source):
                guard let cut = PreTokenizer(expression: source) else { throw unknownExpression(step, source) }
                // Every character is in some match, so what becomes of the others does not matter.
                guard try delimiter(step) == .isolated else {
                    throw step.malformed("behavior", "is not Isolated, which is what is supported for expressions.")
                }
                pipeline.cuts.append(.pattern(cut))
            }
        default: throw step.unsupported()
        }
    }

    private func appendGPT2(to pipeline: inout TokenizerPipeline) {
        if case .characters(.digits, .isolated) = pipeline.cuts.last {
            pipeline.cuts[pipeline.cuts.count - 1] = .pattern(.smollm)
        } else {
            pipeline.cuts.append(.pattern(.gpt2))
        }
    }

    /// A change to the text, which is possible only before it is cut.
    private func open(
        _ change: NormalizationStep, _ step: TokenizerFields, _ pipeline: inout TokenizerPipeline
    ) throws(TokenizationError) {
        guard pipeline.cuts.isEmpty else {
            throw step.malformed(nil, "changes text that other steps have cut, which is not supported.")
        }
        pipeline.opening.append(change)
    }

    private func appendMetaspace(
        _ step: TokenizerFields, to pipeline: inout TokenizerPipeline
    ) throws(TokenizationError) {
        let mark = try insert(step, "replacement")
        guard !mark.isEmpty else { throw step.malformed("replacement", "is empty.") }
        try open(.replace(Replacement([0x20], by: mark)), step, &pipeline)
        let reach: NormalizationStep.Reach
        switch step["prepend_scheme"] {
        case .string("always"): reach = .all
        case .string("first"): reach = .firstOnly
        case .string("never"): reach = .none
        case .null: reach = try step.flag("add_prefix_space", default: true) ? .all : .none
        default: throw step.malformed("prepend_scheme", "is none of always, first and never.")
        }
        if reach != .none { try open(.prependUnlessThere(mark, reach), step, &pipeline) }
        if try step.flag("split", default: true) { pipeline.cuts.append(.string(mark, .joinsNext)) }
    }

    private func delimiter(_ step: TokenizerFields) throws(TokenizationError) -> CuttingStep.Delimiter {
        if case .null = step["behavior"] { return .isolated }
        guard let delimiter = CuttingStep.Delimiter(rawValue: try step.string("behavior")) else {
            throw step.malformed("behavior", "is \(step["behavior"].summary), which is no way of splitting.")
        }
        return delimiter
    }

    // MARK: Post-processors

    private func append(
        postProcessor step: TokenizerFields, to pipeline: inout TokenizerPipeline
    ) throws(TokenizationError) {
        switch step.kind {
        case "ByteLevel": break
        case "TemplateProcessing":
            let tokens = TokenizerFields(step["special_tokens"], file: file, field: step.field + ".special_tokens")
            var before: [Int32] = []
            var after: [Int32] = []
            var seesText = false
            for piece in try step.objects("single") {
                if case .object = piece["Sequence"] {
                    guard !seesText else { throw piece.malformed(nil, "is a second place for the text.") }
                    seesText = true
                    continue
                }
                let special = TokenizerFields(piece["SpecialToken"], file: file, field: piece.field + ".SpecialToken")
                let name = try special.string("id")
                let token = TokenizerFields(
                    tokens[name], file: file, field: "\(tokens.field)[\(JSONValue.quoted(name))]")
                guard case .array(let ids) = token["ids"], ids.count <= 64 else {
                    throw token.malformed("ids", "is not a list of at most 64 ids.")
                }
                for id in ids {
                    guard let id = id.exactInteger, (0..<Tokenizer.maxVocabulary).contains(id) else {
                        throw token.malformed("ids", "has \(id.summary) in it, which is no id.")
                    }
                    if seesText { after.append(Int32(id)) } else { before.append(Int32(id)) }
                }
            }
            guard seesText else { throw step.malformed("single", "has no place for the text.") }
            pipeline.prefix = before + pipeline.prefix
            pipeline.suffix += after
        default: throw step.unsupported()
        }
    }

    // MARK: Decoders

    private func read(
        decoder steps: [TokenizerFields], into pipeline: inout TokenizerPipeline
    ) throws(TokenizationError) {
        var isFused = false
        for step in steps {
            switch step.kind {
            case "ByteLevel":
                guard pipeline.algorithm == .byteMerges else {
                    throw step.malformed(nil, "is ByteLevel where the pre-tokenizer is not.")
                }
            case "ByteFallback": break
            case "Fuse": isFused = true
            case "Replace":
                guard case .string(let pattern) = try pattern(step) else {
                    throw step.malformed("pattern", "is an expression, which is not supported here.")
                }
                guard pipeline.algorithm != .byteMerges else { throw step.unsupported() }
                pipeline.replacements.append(Replacement(pattern, by: try insert(step, "content")))
            case "Metaspace":
                guard pipeline.algorithm != .byteMerges else { throw step.unsupported() }
                pipeline.replacements.append(Replacement(try insert(step, "replacement"), by: [0x20]))
                let prepends: Bool
                switch step["prepend_scheme"] {
                case .string(let scheme): prepends = scheme != "never"
                default: prepends = try step.flag("add_prefix_space", default: true)
                }
                if prepends { pipeline.leadingSpace = .droppedFromFirstToken }
            case "Strip":
                let (start, stop) = (try step.integer("start", in: 0...64), try step.integer("stop", in: 0...64))
                guard isFused, start <= 1, stop == 0, try step.string("content") == " " else {
                    throw step.malformed(nil, "is supported only after Fuse, for one space at the beginning.")
                }
                if start == 1 { pipeline.leadingSpace = .dropped }
            default: throw step.unsupported()
            }
        }
    }
}

extension TokenizerFields {
    /// What kind of step the object is.
    var kind: String {
        if case .string(let kind) = self["type"] { return kind }
        return ""
    }

    func unsupported() -> TokenizationError {
        malformed("type", "is \(JSONValue.quoted(kind)), which is not supported here.")
    }
}
