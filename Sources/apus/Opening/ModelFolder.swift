// A Hugging Face folder on its way to being a model: config.json, the tokenizer's files, generation_config.json and the
// safetensors files. Each is read by the module that knows it; here they are found and put together.

import Checkpoints
import Foundation
import JSON
import Scheduling
import Tokenization

/// A folder with config.json in it.
struct ModelFolder {
    private let path: String

    /// Whether there is a folder at `path`.
    static func isFolder(_ path: String) -> Bool {
        var isFolder: ObjCBool = false
        return unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
    }

    init(path: String) {
        self.path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    }

    /// - Throws: `CheckpointError`, `TokenizationError`, `TemplateError`.
    func open() throws -> ModelFile {
        let configPath = "\(path)/config.json"
        guard let json = try content("config.json", limit: ModelConfig.maxConfigBytes) else {
            throw CheckpointError.cannotOpen(
                file: configPath, reason: "there is no such file; a folder needs it, tokenizer.json and safetensors")
        }
        let config = try ModelConfig(json: json, file: configPath)
        let (files, stored) = try weights(quantization(json, file: configPath))
        let text = try tokenizer()
        let generation = try generation(vocabSize: config.vocabSize)
        let tensors = files.flatMap(\.tensors).map {
            ModelFile.TensorFact(
                name: $0.name, type: $0.type.rawValue, shape: $0.shape, byteCount: $0.byteRange.count)
        }
        return try ModelFile(
            path: path, format: files.count == 1 ? "safetensors" : "safetensors in \(files.count) files",
            byteCount: stored.byteCount, config: config, weights: HuggingFaceTensors(stored, config: config),
            tokenizer: text.definition, makeTokenizer: { _ in try text.tokenizer() },
            templateSource: text.chatTemplate,
            stopTokens: (generation?.endTokens ?? []) + (text.definition.eos.map { [Int($0)] } ?? []),
            generationDefaults: generation?.defaults ?? GenerationDefaults(), pooling: pooling(),
            files: files.map(\.path),
            tensors: tensors, metadata: [])
    }

    /// The safetensors files, and the weights in them.
    private func weights(
        _ quantization: QuantizationConfig?
    ) throws(CheckpointError) -> ([SafetensorsFile], SafetensorsCheckpoint) {
        let indexPath = "\(path)/model.safetensors.index.json"
        guard FileManager.default.fileExists(atPath: indexPath) else {
            // The checkpoint's own refusal of a folder without weights is the better one.
            let stored = try SafetensorsCheckpoint(path: path, quantization: quantization)
            return ([try SafetensorsFile(path: "\(path)/model.safetensors")], stored)
        }
        let index = try SafetensorsIndex(MappedFile(path: indexPath))
        var files: [SafetensorsFile] = []
        for name in index.fileNames { files.append(try SafetensorsFile(path: "\(path)/\(name)")) }
        return (files, try SafetensorsCheckpoint(path: path, files, index: index, quantization: quantization))
    }

    /// What config.json says about how weights are quantized; ModelConfig has checked that it is JSON.
    private func quantization(_ json: [UInt8], file: String) throws -> QuantizationConfig? {
        guard case .object(let members) = try JSONParser.parse(json) else { return nil }
        let named = members.first { ["quantization_config", "compression_config"].contains($0.name) }
        guard let value = named?.value, value != .null else { return nil }
        return try QuantizationConfig(value, file: file)
    }

    /// The tokenizer, with the template and the names of the special tokens.
    func tokenizer() throws -> TokenizerFolder {
        var contents: [String: [UInt8]] = [:]
        for name in TokenizerFolder.files {
            let limit = name == "tokenizer.json" ? TokenizerFile.maxBytes : TokenizerFolder.maxConfigBytes
            if let content = try content(name, limit: limit) { contents[name] = content }
        }
        return try TokenizerFolder(contents)
    }

    /// generation_config.json, where there is one.
    func generation(vocabSize: Int) throws -> GenerationConfig? {
        try content("generation_config.json", limit: GenerationConfig.maxBytes).map { json in
            try GenerationConfig(json: json, file: "\(path)/generation_config.json", vocabSize: vocabSize)
        }
    }

    /// What the folder's sentence-transformers part says, where there is one. What is not known here is not an error:
    /// most who serve such a model do not ask for embeddings.
    func pooling() throws -> Pooling? {
        guard let json = try content("1_Pooling/config.json", limit: GenerationConfig.maxBytes),
            json.count <= GenerationConfig.maxBytes, case .object(let members) = try JSONParser.parse(json)
        else { return nil }
        func says(_ name: String) -> Bool { members.contains { $0.name == name && $0.value == .bool(true) } }
        if says("pooling_mode_lasttoken") { return .lastToken }
        return says("pooling_mode_mean_tokens") ? .mean : nil
    }

    /// The bytes of a file that may be missing, one more than `limit` at most: whoever reads them then says so.
    func content(_ name: String, limit: Int) throws -> [UInt8]? {
        let file = "\(path)/\(name)"
        guard FileManager.default.fileExists(atPath: file) else { return nil }
        do {
            let handle = try FileHandle(forReadingFrom: URL(filePath: file))
            defer { handle.closeFile() }
            return [UInt8](try handle.read(upToCount: limit + 1) ?? Data())
        } catch {
            throw CheckpointError.cannotOpen(file: file, reason: error.localizedDescription)
        }
    }
}
