// The model the project ships in its catalog, opened as the server does; and files that are not models.

import Checkpoints
import Foundation
import Testing

@Suite struct RealModelTests {
    @Test func `the real model opens with its hyper-parameters`() throws {
        let path = try realModelPath()
        let file = try GGUFFile(path: path)
        let config = try ModelConfig(file)
        #expect(file.version == 3)
        #expect(file.tensors.count == 272)
        #expect(file.byteCount == 98_362_432)
        #expect(config.layerCount == 30)
        #expect(config.hiddenSize == 576)
        #expect(config.ffnSize == 1536)
        #expect(config.headCount == 9)
        #expect(config.kvHeadCount == 3)
        #expect(config.headDim == 64)
        #expect(config.vocabSize == 49_152)
        #expect(config.contextLength == 8192)
        #expect(config.ropeTheta == 100_000)
        #expect(config.rmsEpsilon == 1e-5)
        #expect(config.hasTiedEmbeddings)
        #expect(try readLlamaWeights(file, config).count == 272)
    }

    @Test func `the real model's tokenizer is read`() throws {
        let file = try GGUFFile(path: realModelPath())
        let tokenizer = try TokenizerMetadata(file, vocabSize: 49_152)
        #expect(tokenizer.tokens.count == 49_152)
        #expect(tokenizer.merges?.count == 48_900)
        #expect(String(decoding: tokenizer.tokens[1], as: UTF8.self) == "<|im_start|>")
        #expect(tokenizer.tokenTypes?[1] == 3)
        #expect(tokenizer.eosID == 2)
        #expect(tokenizer.addsBOS == false)
        #expect(tokenizer.chatTemplate?.hasPrefix("{% for message in messages %}") == true)
    }

    @Test func `what is not a regular file with content is refused`() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let empty = folder.appending(path: "empty.gguf").path
        try Data().write(to: URL(fileURLWithPath: empty))
        let cases = [
            (folder.path, "it is not a regular file"), ("/dev/zero", "it is not a regular file"),
            (empty, "its size is 0 bytes"), (folder.path + "/none", "No such file or directory"),
        ]
        for (path, reason) in cases {
            #expect(throws: CheckpointError.cannotOpen(file: path, reason: reason)) { try MappedFile(path: path) }
        }
        #expect(
            "\(CheckpointError.cannotOpen(file: "a.gguf", reason: "it is not a regular file"))"
                == "Cannot open a.gguf: it is not a regular file.")
    }

    @Test func `a file written to while it is open is noticed`() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString).gguf").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(GGUFWriter.tinyLlama().withBytes()).write(to: URL(fileURLWithPath: path))
        let file = try GGUFFile(path: path)
        let config = try ModelConfig(file)
        try readLlamaWeights(file, config)
        let cut = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try cut.truncate(atOffset: 4096)
        try cut.close()
        let error = #expect(throws: CheckpointError.self) { try readLlamaWeights(file, config) }
        #expect(error?.description.contains("was modified while it was being loaded: its size is now 4096") == true)
    }

    @Test func `a new file renamed over an open one does no harm`() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString).gguf").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let bytes = Data(GGUFWriter.tinyLlama().withBytes())
        try bytes.write(to: URL(fileURLWithPath: path))
        let file = try GGUFFile(path: path)
        try bytes.write(to: URL(fileURLWithPath: path), options: .atomic)
        try readLlamaWeights(file, ModelConfig(file))
    }
}
