// A checkpoint opened by a command: its metadata, its tokenizer and its template, whether it is one GGUF file or a
// Hugging Face folder. The weights stay in their files until the engine reads them on its own thread.

import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tensors
import Tokenization

/// Everything about a model but its weights.
struct ModelFile: Sendable {
    /// The file or the folder.
    let path: String
    /// What it is, "GGUF version 3".
    let format: String
    /// Of all files that are read.
    let byteCount: Int
    let config: ModelConfig
    let weights: any TensorSource & Sendable
    let tokenizer: Tokenizer
    /// nil where the checkpoint has none.
    let chatTemplate: ChatTemplate?
    /// Tokens that end a generation.
    let stopTokens: [TokenID]
    let generationDefaults: GenerationDefaults
    let digests: ModelDigests
    /// How an embedding is made, where the checkpoint says so.
    let pooling: Pooling?
    /// In the order of the files.
    let tensors: [TensorFact]
    /// What the checkpoint says of itself, for people.
    let metadata: [(key: String, summary: String)]

    /// A tensor as it is stored.
    struct TensorFact: Sendable {
        let name: String
        /// The element type's name in capitals.
        let type: String
        let shape: [Int]
        let byteCount: Int

        /// The parsers have bounded the product.
        var elementCount: Int { shape.reduce(1, *) }
    }

    /// Opens and checks the checkpoint at `path`.
    /// - Throws: `CheckpointError`, `TokenizationError`, `TemplateError`.
    init(path: String) throws {
        if ModelFolder.isFolder(path) { self = try ModelFolder(path: path).open() } else { try self.init(gguf: path) }
    }

    private init(gguf path: String) throws {
        let file = try GGUFFile(path: path)
        let config = try ModelConfig(file)
        let metadata = try TokenizerMetadata(file, vocabSize: config.vocabSize)
        let tensors = file.tensors.map {
            TensorFact(
                name: $0.name, type: $0.dtype.rawValue.uppercased(), shape: $0.shape, byteCount: $0.byteRange.count)
        }
        try self.init(
            path: path, format: "GGUF version \(file.version)", byteCount: file.byteCount, config: config,
            weights: file, tokenizer: TokenizerDefinition(metadata), makeTokenizer: Tokenizer.init,
            templateSource: metadata.chatTemplate, stopTokens: [metadata.eosID, metadata.eotID].compactMap { $0 },
            generationDefaults: GenerationDefaults(file), pooling: Pooling(file, config), files: [path],
            tensors: tensors,
            metadata: file.keys.map { (key: $0, summary: file[key: $0]?.summary ?? "") })
    }

    /// - Parameters:
    ///   - makeTokenizer: makes a tokenizer of the definition, in whose errors the file is named.
    ///   - files: those whose content the model's digest stands for.
    init(
        path: String, format: String, byteCount: Int, config: ModelConfig, weights: any TensorSource & Sendable,
        tokenizer definition: TokenizerDefinition, makeTokenizer: (TokenizerDefinition) throws -> Tokenizer,
        templateSource: String?, stopTokens: [Int], generationDefaults: GenerationDefaults, pooling: Pooling?,
        files: [String], tensors: [TensorFact], metadata: [(key: String, summary: String)]
    ) throws {
        self.path = path
        self.format = format
        self.byteCount = byteCount
        self.config = config
        self.weights = weights
        tokenizer = try makeTokenizer(definition)
        chatTemplate = try templateSource.map { source throws(TemplateError) in try ChatTemplate(source: source) }
        var stops: [TokenID] = []
        for id in stopTokens where !stops.contains(TokenID(id)) { stops.append(TokenID(id)) }
        self.stopTokens = stops
        self.generationDefaults = generationDefaults
        self.pooling = pooling
        digests = try ModelDigests(files: files, tokenizer: definition, template: templateSource)
        self.tensors = tensors
        self.metadata = metadata
    }

    /// All elements of all tensors.
    var parameterCount: Int { tensors.reduce(0) { $0 + $1.elementCount } }

    /// Element types with the bytes each holds, largest first.
    var storedTypes: [(name: String, bytes: Int)] {
        var bytes: [String: Int] = [:]
        for tensor in tensors { bytes[tensor.type, default: 0] += tensor.byteCount }
        return bytes.map { (name: $0.key, bytes: $0.value) }.sorted { ($1.bytes, $0.name) < ($0.bytes, $1.name) }
    }
}

extension Pooling {
    /// What a GGUF file says makes an embedding; nil where it says nothing, or something that is not known here.
    fileprivate init?(_ file: GGUFFile, _ config: ModelConfig) throws(CheckpointError) {
        switch try file.integer("\(config.architecture).pooling_type", in: 0...255) {
        case 1: self = .mean
        case 3: self = .lastToken
        default: return nil
        }
    }
}
