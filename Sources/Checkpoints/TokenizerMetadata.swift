// What a checkpoint says about its tokenizer, its chat template and the sampling its publisher recommends.
//
// Plain values for the tokenizer to be built from: ids are checked against the vocabulary here, so that nothing later
// indexes with a number from the file.

/// The tokenizer's part of a checkpoint's metadata.
package struct TokenizerMetadata: Sendable {
    /// The algorithm: "gpt2" is byte-level BPE, "llama" is SentencePiece.
    package let model: String
    /// The name of the pre-tokenizer, if stated.
    package let pre: String?
    /// The text of each token, in the encoding of `model`. [tokens]
    package let tokens: PackedStrings
    /// Merge rules, "left right", best first. [merges]
    package let merges: PackedStrings?
    /// The kind of each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. [tokens], or nil
    package let tokenTypes: [Int32]?
    /// Scores of a SentencePiece vocabulary. [tokens], or nil
    package let scores: [Float]?
    package let bosID: Int?
    package let eosID: Int?
    /// Ends a turn, where that is not `eosID`.
    package let eotID: Int?
    package let unknownID: Int?
    package let paddingID: Int?
    package let addsBOS: Bool?
    package let addsEOS: Bool?
    package let addsSpacePrefix: Bool?
    /// The Jinja source of the chat template, if the model has one.
    package let chatTemplate: String?

    /// Reads the tokenizer of `file`, which may know at most `vocabSize` tokens.
    package init(_ file: GGUFFile, vocabSize: Int) throws(CheckpointError) {
        guard let model = try file.string("tokenizer.ggml.model") else {
            throw .missingMetadata(file: file.path, key: "tokenizer.ggml.model")
        }
        guard let tokens = try file.strings("tokenizer.ggml.tokens"), let entry = file[key: "tokenizer.ggml.tokens"]
        else {
            throw .missingMetadata(file: file.path, key: "tokenizer.ggml.tokens")
        }
        guard (1...vocabSize).contains(tokens.count) else {
            throw file.wrongValue(
                entry, "tokenizer.ggml.tokens", expected: "1 to \(vocabSize) strings, the rows of the embedding table")
        }
        self.model = model
        self.tokens = tokens
        pre = try file.string("tokenizer.ggml.pre")
        merges = try file.strings("tokenizer.ggml.merges")
        tokenTypes = try file.integers("tokenizer.ggml.token_type")
        try file.require(tokenTypes?.count, of: "tokenizer.ggml.token_type", toBe: tokens.count)
        if let index = tokenTypes?.firstIndex(where: { !(0...6).contains($0) }),
            let entry = file[key: "tokenizer.ggml.token_type"]
        {
            throw .malformed(
                file: file.path, offset: entry.offset, field: "element \(index) of tokenizer.ggml.token_type",
                actual: "\(tokenTypes?[index] ?? 0)", expected: "0 to 6")
        }
        scores = try file.floats("tokenizer.ggml.scores")
        try file.require(scores?.count, of: "tokenizer.ggml.scores", toBe: tokens.count)
        let ids = 0...tokens.count - 1
        bosID = try file.integer("tokenizer.ggml.bos_token_id", in: ids)
        eosID = try file.integer("tokenizer.ggml.eos_token_id", in: ids)
        eotID = try file.integer("tokenizer.ggml.eot_token_id", in: ids)
        unknownID = try file.integer("tokenizer.ggml.unknown_token_id", in: ids)
        paddingID = try file.integer("tokenizer.ggml.padding_token_id", in: ids)
        addsBOS = try file.boolean("tokenizer.ggml.add_bos_token")
        addsEOS = try file.boolean("tokenizer.ggml.add_eos_token")
        addsSpacePrefix = try file.boolean("tokenizer.ggml.add_space_prefix")
        chatTemplate = try file.string("tokenizer.chat_template")
    }
}

/// The sampling a model's publisher recommends; nil where they say nothing.
package struct GenerationDefaults: Sendable, Equatable {
    package let temperature: Double?
    package let topP: Double?
    package let minP: Double?
    package let topK: Int?

    /// What is known to be recommended.
    package init(temperature: Double? = nil, topP: Double? = nil, minP: Double? = nil, topK: Int? = nil) {
        self.temperature = temperature
        self.topP = topP
        self.minP = minP
        self.topK = topK
    }

    /// Reads `general.sampling.*`.
    package init(_ file: GGUFFile) throws(CheckpointError) {
        temperature = try file.number("general.sampling.temp", in: 0...2)
        topP = try file.number("general.sampling.top_p", in: 0...1)
        minP = try file.number("general.sampling.min_p", in: 0...1)
        topK = try file.integer("general.sampling.top_k", in: -1...Int(Int32.max))
    }
}

extension GGUFFile {
    /// Throws when the array under `key` is there and has not `expected` elements.
    fileprivate func require(_ count: Int?, of key: String, toBe expected: Int) throws(CheckpointError) {
        guard let count, count != expected, let entry = self[key: key] else { return }
        throw wrongValue(entry, key, expected: "\(expected) elements, one per token")
    }
}
