// Bytes as a GGUF file: its header, its hyper-parameters, its tokenizer, and the first and last row of each tensor.

import Checkpoints
import Tensors

enum CheckpointTarget {
    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        let complaint: String?
        do throws(CheckpointError) {
            complaint = try examine(MappedFile(copying: bytes, path: "fuzz.gguf"))
        } catch {
            return try BrokenPromise.check(refusal: error.description)
        }
        if let complaint { throw BrokenPromise(description: complaint) }
    }

    /// What is wrong with what was read; nil if nothing is.
    private static func examine(_ mapping: MappedFile) throws(CheckpointError) -> String? {
        let file = try GGUFFile(mapping)
        for tensor in file.tensors {
            guard tensor.byteRange.upperBound <= mapping.byteCount else { return "\(tensor.name) ends behind the file" }
            guard let stored = file.storedTensor(tensor.name)?.tensor, stored.storedRowCount > 0 else { continue }
            for row in [0, stored.storedRowCount - 1] {
                let count = stored.dequantizedRow(row).count
                guard count == tensor.shape.last else { return "a row of \(tensor.name) has \(count) elements" }
            }
        }
        let config = try ModelConfig(file)
        _ = try GenerationDefaults(file)
        let tokenizer = try TokenizerMetadata(file, vocabSize: config.vocabSize)
        guard config.headCount % config.kvHeadCount == 0 else { return "the heads do not divide" }
        guard config.headDim % 2 == 0, config.ropeDimension <= config.headDim else { return "positions do not fit" }
        guard tokenizer.tokens.count <= config.vocabSize else { return "more tokens than embeddings" }
        return nil
    }
}
