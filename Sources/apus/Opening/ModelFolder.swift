// A Hugging Face folder on its way to being a model: config.json, the tokenizer's files, generation_config.json and the
// safetensors files. Each is read by the module that knows it; here they are found and put together.

import Checkpoints
import Foundation
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
        throw CheckpointError.unsupported(
            file: path, offset: 0, field: "the format", actual: "a folder", supported: "GGUF files")
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
