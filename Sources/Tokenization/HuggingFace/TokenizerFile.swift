// Reads tokenizer.json, the file that the `tokenizers` package writes, into a definition. The vocabulary and the merges
// are the file's bulk and are read where they lie; everything else is small and read as a tree (TokenizerSteps). Every
// refusal names the file and the field.

import JSON

/// A tokenizer.json being read.
package struct TokenizerFile {
    /// The largest file accepted, in bytes.
    package static let maxBytes = 64 << 20
    /// The largest part that is read as a tree, in bytes.
    private static let maxPartBytes = 1 << 20
    private static let maxAddedBytes = 8 << 20

    let file: String
    private var scanner: JSONScanner
    /// Top-level members, and those of "model" with "model." before their names.
    private var parts: [String: Range<Int>] = [:]

    /// The definition that `bytes` spell.
    /// - Parameter file: what the file is called in errors.
    package static func definition(
        _ bytes: [UInt8], file: String = "tokenizer.json"
    ) throws(TokenizationError) -> TokenizerDefinition {
        guard bytes.count <= maxBytes else {
            throw .malformedFile(
                file: file, field: "size", reason: "is \(bytes.count) bytes; at most \(maxBytes) are accepted.")
        }
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw .malformedFile(file: file, field: "text", reason: "is not UTF-8.")
        }
        var reader = TokenizerFile(file: file, scanner: JSONScanner(bytes))
        return try reader.definition()
    }

    private init(file: String, scanner: JSONScanner) {
        self.file = file
        self.scanner = scanner
    }

    func malformed(_ field: String, _ reason: String) -> TokenizationError {
        .malformedFile(file: file, field: field, reason: reason)
    }

    private func malformed(_ field: String, _ error: JSONError) -> TokenizationError {
        malformed(field, "is not JSON at byte \(error.offset): \(error.reason).")
    }

    private mutating func definition() throws(TokenizationError) -> TokenizerDefinition {
        do throws(JSONError) {
            try findParts(prefix: "")
            guard scanner.peek() == nil else {
                throw JSONError(offset: scanner.position, reason: "there is text after the end of the value")
            }
        } catch { throw malformed("text", error) }
        guard let model = parts["model"] else { throw malformed("model", "is missing.") }
        scanner.go(to: model.lowerBound)
        do throws(JSONError) { try findParts(prefix: "model.") } catch { throw malformed("model", error) }

        let steps = TokenizerSteps(file: file)
        let added = try AddedTokens(tree("added_tokens", limit: Self.maxAddedBytes), file: file)
        var pipeline = try steps.pipeline(
            modelType: modelType(), normalizer: tree("normalizer"), preTokenizer: tree("pre_tokenizer"),
            postProcessor: tree("post_processor"), decoder: tree("decoder"))
        let isUnigram = pipeline.algorithm == .unigram
        let vocabulary = isUnigram ? try scoredVocabulary() : try vocabulary()
        var definition = TokenizerDefinition(
            model: "tokenizer.json", preTokenizer: "", pieces: PackedStrings(), merges: PackedStrings(), types: [])
        try assemble(vocabulary, added, &definition)
        definition.scores = isUnigram ? definition.scores : []
        definition.mergeSeparator = 0xFF
        if !isUnigram { definition.merges = try merges() }
        try readModel(&pipeline, &definition)
        definition.pipeline = pipeline
        return definition
    }

    private mutating func findParts(prefix: String) throws(JSONError) {
        try scanner.expect(UInt8(ascii: "{"), "an object")
        var isFirst = true
        while try scanner.hasElement(before: UInt8(ascii: "}"), isFirst: &isFirst) {
            _ = scanner.peek()
            let name = try scanner.string()
            try scanner.expect(UInt8(ascii: ":"), "a colon")
            let range = try scanner.skip()
            guard parts.updateValue(range, forKey: prefix + name) == nil, parts.count <= 256 else {
                throw JSONError(offset: scanner.position, reason: "a name occurs twice, or there are too many")
            }
        }
    }

    /// A small part as a tree; null where it is not there.
    private func tree(_ name: String, limit: Int = maxPartBytes) throws(TokenizationError) -> JSONValue {
        guard let range = parts[name] else { return .null }
        guard range.count <= limit else {
            throw malformed(name, "has \(range.count) bytes; at most \(limit) are accepted.")
        }
        do throws(JSONError) {
            return try JSONParser.parse(Array(scanner.bytes[range]))
        } catch { throw malformed(name, error) }
    }

    // MARK: The model

    private func modelType() throws(TokenizationError) -> String {
        switch try tree("model.type", limit: 256) {
        case .string(let type): return type
        // Older files leave it out: a list is a unigram vocabulary.
        case .null:
            if let vocab = parts["model.vocab"], scanner.bytes[vocab.lowerBound] == UInt8(ascii: "[") {
                return "Unigram"
            }
            return "BPE"
        default: throw malformed("model.type", "is not a string.")
        }
    }

    private func readModel(
        _ pipeline: inout TokenizerPipeline, _ definition: inout TokenizerDefinition
    ) throws(TokenizationError) {
        pipeline.usesByteFallback = try flag("byte_fallback")
        pipeline.takesWholePieces = try flag("ignore_merges")
        pipeline.fusesUnknown = pipeline.algorithm == .unigram ? true : try flag("fuse_unk")
        for name in ["continuing_subword_prefix", "end_of_word_suffix", "dropout"] {
            switch try tree("model." + name, limit: 256) {
            case .null, .string(""), .integer(0), .number(0): continue
            default: throw malformed("model.\(name)", "is not supported; it must be null or empty.")
            }
        }
        if pipeline.algorithm == .unigram {
            switch try tree("model.unk_id", limit: 256) {
            case .null: break
            case .integer(let id) where definition.types.indices.contains(id): definition.unk = Int32(id)
            default: throw malformed("model.unk_id", "is not the id of a token.")
            }
        } else {
            switch try tree("model.unk_token", limit: 64 << 10) {
            case .null, .string(""): break
            case .string(let text):
                guard let id = definition.pieces.firstIndex(of: text) else {
                    throw malformed("model.unk_token", "is \(JSONValue.quoted(text)), which is not in the vocabulary.")
                }
                definition.unk = Int32(id)
            default: throw malformed("model.unk_token", "is not a string.")
            }
        }
        if let unk = definition.unk, definition.types[Int(unk)] != TokenType.control.rawValue {
            definition.types[Int(unk)] = TokenType.unknown.rawValue
        }
        guard pipeline.usesByteFallback else { return }
        let pieces = definition.pieces
        let bytes = pieces.bytes.span
        var types = definition.types
        for token in types.indices where types[token] == TokenType.normal.rawValue {
            if Tokenizer.byte(of: pieces.range(of: token), bytes) != nil {
                types[token] = TokenType.byte.rawValue
            }
        }
        definition.types = types
    }

    private func flag(_ name: String) throws(TokenizationError) -> Bool {
        switch try tree("model." + name, limit: 256) {
        case .null: return false
        case .bool(let value): return value
        default: throw malformed("model.\(name)", "is neither true nor false.")
        }
    }

    // MARK: The vocabulary

    private struct Vocabulary {
        var pieces = PackedStrings()
        /// [pieces] in the order of the file.
        var ids: [Int] = []
        /// [pieces], or empty.
        var scores: [Float] = []
    }

    private mutating func vocabulary() throws(TokenizationError) -> Vocabulary {
        guard let range = parts["model.vocab"] else { throw malformed("model.vocab", "is missing.") }
        scanner.go(to: range.lowerBound)
        var vocabulary = Vocabulary()
        var text: [UInt8] = []
        do throws(JSONError) {
            try scanner.expect(UInt8(ascii: "{"), "an object")
            var isFirst = true
            while try scanner.hasElement(before: UInt8(ascii: "}"), isFirst: &isFirst) {
                text.removeAll(keepingCapacity: true)
                try scanner.string(into: &text)
                try scanner.expect(UInt8(ascii: ":"), "a colon")
                vocabulary.ids.append(try scanner.integer())
                vocabulary.pieces.append(text.span)
                if vocabulary.ids.count > Tokenizer.maxVocabulary { break }
            }
        } catch { throw malformed("model.vocab", error) }
        return vocabulary
    }

    private mutating func scoredVocabulary() throws(TokenizationError) -> Vocabulary {
        guard let range = parts["model.vocab"] else { throw malformed("model.vocab", "is missing.") }
        scanner.go(to: range.lowerBound)
        var vocabulary = Vocabulary()
        var text: [UInt8] = []
        do throws(JSONError) {
            try scanner.expect(UInt8(ascii: "["), "a list")
            var isFirst = true
            while try scanner.hasElement(before: UInt8(ascii: "]"), isFirst: &isFirst) {
                text.removeAll(keepingCapacity: true)
                try scanner.expect(UInt8(ascii: "["), "a piece and its score")
                try scanner.string(into: &text)
                try scanner.expect(UInt8(ascii: ","), "a comma")
                vocabulary.scores.append(Float(try scanner.number()))
                try scanner.expect(UInt8(ascii: "]"), "the end of a piece and its score")
                vocabulary.ids.append(vocabulary.ids.count)
                vocabulary.pieces.append(text.span)
                if vocabulary.ids.count > Tokenizer.maxVocabulary { break }
            }
        } catch { throw malformed("model.vocab", error) }
        return vocabulary
    }

    /// Puts pieces and added tokens in the order of their ids.
    private func assemble(
        _ vocabulary: Vocabulary, _ added: AddedTokens, _ definition: inout TokenizerDefinition
    ) throws(TokenizationError) {
        let count = vocabulary.ids.count + added.tokens.count
        let highest = max(vocabulary.ids.max() ?? -1, added.tokens.map(\.id).max() ?? -1)
        guard count > 0, vocabulary.ids.count <= Tokenizer.maxVocabulary, highest < Tokenizer.maxVocabulary else {
            throw malformed(
                "model.vocab",
                "has \(count) pieces and ids up to \(highest); 1 to \(Tokenizer.maxVocabulary) are accepted.")
        }
        // A table of mostly holes would be memory for nothing.
        guard highest < 2 * count + 4096 else {
            throw malformed("model.vocab", "has ids up to \(highest) for \(count) pieces; they are not dense.")
        }
        // [ids] where each piece lies in the file's order; -1 is none, below that an added token.
        var places = [Int](repeating: -1, count: highest + 1)
        for (place, id) in vocabulary.ids.enumerated() {
            guard places[id] == -1 else { throw malformed("model.vocab", "gives the id \(id) to two pieces.") }
            places[id] = place
        }
        var types = [Int32](repeating: TokenType.unused.rawValue, count: highest + 1)
        for id in vocabulary.ids { types[id] = TokenType.normal.rawValue }
        for (index, token) in added.tokens.enumerated() {
            let place = places[token.id]
            guard place == -1 || place >= 0 && vocabulary.pieces[place].elementsEqual(token.content.utf8) else {
                throw malformed(
                    "added_tokens[\(index)]",
                    "is \(JSONValue.quoted(token.content)) with the id \(token.id), which another token has.")
            }
            places[token.id] = -2 - index
            types[token.id] = (token.isSpecial ? TokenType.control : .userDefined).rawValue
            definition.addedTokenRules[Int32(token.id)] = token.rule
        }
        definition.pieces.reserve(count: places.count, byteCount: vocabulary.pieces.bytes.count)
        let isScored = !vocabulary.scores.isEmpty
        for place in places {
            switch place {
            case 0...:
                definition.pieces.append(vocabulary.pieces.bytes.span.extracting(vocabulary.pieces.range(of: place)))
            case -1: definition.pieces.append(EmptyCollection())
            default: definition.pieces.append(added.tokens[-2 - place].content.utf8)
            }
            if isScored { definition.scores.append(place >= 0 ? vocabulary.scores[place] : 0) }
        }
        // Added tokens of the vocabulary keep their scores.
        if isScored {
            for (place, id) in vocabulary.ids.enumerated() { definition.scores[id] = vocabulary.scores[place] }
        }
        definition.types = types
    }

    // MARK: Merges

    private mutating func merges() throws(TokenizationError) -> PackedStrings {
        var merges = PackedStrings()
        guard let range = parts["model.merges"] else { return merges }
        scanner.go(to: range.lowerBound)
        merges.reserve(count: range.count / 16, byteCount: range.count / 2)
        var text: [UInt8] = []
        do throws(JSONError) {
            try scanner.expect(UInt8(ascii: "["), "a list")
            var isFirst = true
            while try scanner.hasElement(before: UInt8(ascii: "]"), isFirst: &isFirst) {
                text.removeAll(keepingCapacity: true)
                if scanner.take(UInt8(ascii: "[")) {
                    try scanner.string(into: &text)
                    text.append(0xFF)
                    try scanner.expect(UInt8(ascii: ","), "a comma")
                    try scanner.string(into: &text)
                    try scanner.expect(UInt8(ascii: "]"), "the end of a pair")
                } else {
                    try scanner.string(into: &text)
                    if let space = text.firstIndex(of: 0x20) { text[space] = 0xFF }
                }
                merges.append(text.span)
                if merges.count > Tokenizer.maxMerges { break }
            }
        } catch { throw malformed("model.merges", error) }
        return merges
    }
}

/// The tokens that tokenizer.json adds to the model's.
struct AddedTokens {
    struct Token {
        var id: Int
        var content: String
        var isSpecial: Bool
        var rule: AddedTokenRule
    }

    private(set) var tokens: [Token] = []

    init(_ tree: JSONValue, file: String) throws(TokenizationError) {
        let elements: [JSONValue]
        switch tree {
        case .null: return
        case .array(let list): elements = list
        default: throw .malformedFile(file: file, field: "added_tokens", reason: "is not a list.")
        }
        for (index, element) in elements.enumerated() {
            let fields = TokenizerFields(element, file: file, field: "added_tokens[\(index)]")
            let id = try fields.integer("id", in: 0...(Tokenizer.maxVocabulary - 1))
            let content = try fields.string("content")
            guard !content.isEmpty else { throw fields.malformed("content", "is empty.") }
            var rule = AddedTokenRule()
            rule.stripsLeft = try fields.flag("lstrip")
            rule.stripsRight = try fields.flag("rstrip")
            rule.isWholeWord = try fields.flag("single_word")
            rule.isNormalized = try fields.flag("normalized")
            tokens.append(Token(id: id, content: content, isSpecial: try fields.flag("special"), rule: rule))
        }
    }
}
