// A checkpoint opened by a command: its metadata, its tokenizer and its template. The weights stay in the file until
// the engine reads them on its own thread.

import Checkpoints
import Execution
import Models
import Scheduling
import Tensors
import Tokenization

/// Everything about a model but its weights.
struct ModelFile: Sendable {
    let file: GGUFFile
    let config: ModelConfig
    let tokenizer: Tokenizer
    /// nil where the checkpoint has none.
    let chatTemplate: ChatTemplate?
    /// Tokens that end a generation.
    let stopTokens: [TokenID]
    let generationDefaults: GenerationDefaults

    /// Opens and checks the GGUF file at `path`.
    /// - Throws: `CheckpointError`, `TokenizationError`, `TemplateError`.
    init(path: String) throws {
        file = try GGUFFile(path: path)
        config = try ModelConfig(file)
        let metadata = try TokenizerMetadata(file, vocabSize: config.vocabSize)
        tokenizer = try Tokenizer(TokenizerDefinition(metadata))
        chatTemplate = try metadata.chatTemplate.map { source throws(TemplateError) in
            try ChatTemplate(source: source)
        }
        var stopTokens: [TokenID] = []
        for id in [metadata.eosID, metadata.eotID].compactMap({ $0 }) where !stopTokens.contains(TokenID(id)) {
            stopTokens.append(TokenID(id))
        }
        self.stopTokens = stopTokens
        generationDefaults = try GenerationDefaults(file)
    }

    /// All elements of all tensors.
    var parameterCount: Int {
        file.tensors.reduce(0) { $0 + $1.elementCount }
    }

    /// Element types with the bytes each holds, largest first.
    var storedTypes: [(name: String, bytes: Int)] {
        var bytes: [String: Int] = [:]
        for tensor in file.tensors { bytes[tensor.dtype.rawValue.uppercased(), default: 0] += tensor.byteRange.count }
        return bytes.map { (name: $0.key, bytes: $0.value) }.sorted { ($1.bytes, $0.name) < ($0.bytes, $1.name) }
    }
}

extension GGUFTensorInfo {
    /// The parser has bounded the product.
    var elementCount: Int { shape.reduce(1, *) }
}
