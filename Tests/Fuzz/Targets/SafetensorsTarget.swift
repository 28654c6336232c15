// Bytes as a safetensors file, and as the index of several: the header, and the first and last row of each tensor.

import Checkpoints
import JSON
import Tensors

enum SafetensorsTarget {
    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        let file = MappedFile(copying: bytes, path: "fuzz.safetensors")
        do throws(CheckpointError) {
            _ = try SafetensorsIndex(file)
        } catch {
            try BrokenPromise.check(refusal: error.description)
        }
        let complaint: String?
        do throws(CheckpointError) {
            complaint = try examine(file)
        } catch {
            return try BrokenPromise.check(refusal: error.description)
        }
        if let complaint { throw BrokenPromise(description: complaint) }
    }

    /// What is wrong with what was read; nil if nothing is.
    private static func examine(_ mapping: MappedFile) throws(CheckpointError) -> String? {
        let file = try SafetensorsFile(mapping)
        for tensor in file.tensors where tensor.byteRange.upperBound > mapping.byteCount {
            return "\(tensor.name) ends behind the file"
        }
        for config in ["gptq", "awq", "fp8"] {
            let method = JSONValue.object([.init(name: "quant_method", value: .string(config))])
            let quantization = try QuantizationConfig(method, file: "config.json")
            do throws(CheckpointError) {
                let checkpoint = try SafetensorsCheckpoint(
                    path: mapping.path, [file], index: nil, quantization: quantization)
                if let complaint = rows(of: checkpoint) { return complaint }
            } catch {
                guard !error.description.isEmpty, error.description.utf8.count <= 2048 else { return "a long refusal" }
            }
        }
        return nil
    }

    private static func rows(of checkpoint: SafetensorsCheckpoint) -> String? {
        for name in checkpoint.tensorNames {
            guard let stored = checkpoint.storedTensor(name)?.tensor, stored.storedRowCount > 0 else { continue }
            for row in [0, stored.storedRowCount - 1] {
                let count = stored.dequantizedRow(row).count
                guard count == stored.shape.last ?? 1 else { return "a row of \(name) has \(count) elements" }
            }
        }
        return nil
    }
}
