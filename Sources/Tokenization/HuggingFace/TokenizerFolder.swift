// What a Hugging Face folder says about text: tokenizer.json, and beside it the names of the special tokens, the chat
// template, in whichever of its places it lies, and whether texts begin with a token. Whoever opens the folder reads
// the files; here are only bytes.

import JSON

/// A folder's tokenizer and chat template.
package struct TokenizerFolder: Sendable {
    /// The files that are read, besides tokenizer.json none of which must be there.
    package static let files = [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
        "chat_template.json",
    ]
    /// The largest of the small files, in bytes.
    package static let maxConfigBytes = 4 << 20
    /// The longest chat template, in bytes.
    private static let maxTemplateBytes = 1 << 20

    /// The definition, with the tokens that the configuration names.
    package private(set) var definition: TokenizerDefinition
    /// The Jinja source of the chat template, if there is one.
    package private(set) var chatTemplate: String?

    /// - Parameter contents: the bytes of those of `files` that are there, by name.
    package init(_ contents: [String: [UInt8]]) throws(TokenizationError) {
        guard let tokenizer = contents["tokenizer.json"] else {
            throw .malformedFile(
                file: "tokenizer.json", field: "file",
                reason: "is missing. A folder needs the tokenizer in this form; save it with save_pretrained.")
        }
        definition = try TokenizerFile.definition(tokenizer)
        let config = try Self.fields("tokenizer_config.json", contents)
        let map = try Self.fields("special_tokens_map.json", contents)
        definition.bos = try token("bos_token", config, map)
        definition.eos = try token("eos_token", config, map)
        definition.pad = try token("pad_token", config, map)
        if definition.unk == nil { definition.unk = try token("unk_token", config, map) }
        try readSwitches(config)
        try readTemplate(config, contents)
        definition.markup = chatTemplate ?? ""
    }

    /// The tokenizer; what is wrong with it is said of tokenizer.json.
    package func tokenizer() throws(TokenizationError) -> Tokenizer {
        do throws(TokenizationError) {
            return try Tokenizer(definition)
        } catch {
            if case .malformedFile = error { throw error }
            throw .malformedFile(file: "tokenizer.json", field: "model", reason: "is refused. \(error)")
        }
    }

    private static func fields(
        _ file: String, _ contents: [String: [UInt8]]
    ) throws(TokenizationError) -> TokenizerFields {
        guard let bytes = contents[file] else { return TokenizerFields(.null, file: file, field: "") }
        guard bytes.count <= maxConfigBytes else {
            throw .malformedFile(
                file: file, field: "size", reason: "is \(bytes.count) bytes; at most \(maxConfigBytes) are accepted.")
        }
        do throws(JSONError) {
            let tree = try JSONParser.parse(bytes, limits: limits)
            guard case .object = tree else {
                throw JSONError(offset: 0, reason: "an object is expected")
            }
            return TokenizerFields(tree, file: file, field: "")
        } catch {
            throw .malformedFile(
                file: file, field: "text", reason: "is not JSON at byte \(error.offset): \(error.reason).")
        }
    }

    /// "added_tokens_decoder" has a member for every added token.
    private static var limits: JSONLimits {
        var limits = JSONLimits()
        limits.membersPerObject = 1 << 16
        return limits
    }

    /// The id of the token that one of the files names: a string, or an object with the string as its content.
    private func token(
        _ name: String, _ files: TokenizerFields...
    ) throws(TokenizationError) -> Int32? {
        for fields in files {
            let text: String
            switch fields[name] {
            case .null: continue
            case .string(let content): text = content
            case .object:
                text = try TokenizerFields(fields[name], file: fields.file, field: name).string("content")
            default: throw fields.malformed(name, "is \(fields[name].summary), not the text of a token.")
            }
            guard let id = definition.pieces.firstIndex(of: text) else {
                throw fields.malformed(name, "is \(JSONValue.quoted(text)), which tokenizer.json does not know.")
            }
            return Int32(id)
        }
        return nil
    }

    /// `add_bos_token` and `add_eos_token`, where they are stated, go before what tokenizer.json does.
    private mutating func readSwitches(_ config: TokenizerFields) throws(TokenizationError) {
        func changed(_ tokens: [Int32], _ name: String, _ token: Int32?) throws(TokenizationError) -> [Int32] {
            if case .null = config[name] { return tokens }
            guard try config.flag(name) else { return tokens.filter { $0 != token } }
            guard let token else { throw config.malformed(name, "is true, but no such token is named.") }
            return tokens.contains(token) ? tokens : tokens + [token]
        }
        guard var pipeline = definition.pipeline else { return }
        pipeline.prefix = try changed(pipeline.prefix, "add_bos_token", definition.bos)
        pipeline.suffix = try changed(pipeline.suffix, "add_eos_token", definition.eos)
        definition.pipeline = pipeline
    }

    private mutating func readTemplate(
        _ config: TokenizerFields, _ contents: [String: [UInt8]]
    ) throws(TokenizationError) {
        if let bytes = contents["chat_template.jinja"] {
            guard bytes.count <= Self.maxTemplateBytes, let text = String(validating: bytes, as: UTF8.self) else {
                throw .malformedFile(
                    file: "chat_template.jinja", field: "text",
                    reason: "is not UTF-8 of at most \(Self.maxTemplateBytes) bytes.")
            }
            return chatTemplate = text
        }
        let separate = try Self.fields("chat_template.json", contents)
        for fields in [separate, config] {
            switch fields["chat_template"] {
            case .null: continue
            case .string(let text): return chatTemplate = text
            case .array(let templates):
                // Several by name: the one for conversations is called "default".
                for (index, template) in templates.enumerated() {
                    let named = TokenizerFields(template, file: fields.file, field: "chat_template[\(index)]")
                    let (name, text) = (try named.string("name"), try named.string("template"))
                    if name == "default" || chatTemplate == nil { chatTemplate = text }
                }
                return
            default: throw fields.malformed("chat_template", "is neither a string nor a list.")
            }
        }
    }
}
