// A PEFT folder: adapter_config.json and adapter_model.safetensors, read by the checked reader of all safetensors.

import Foundation
import JSON
import Tensors

/// The matrices of a LoRA adapter, under the names that PEFT gives them.
package struct AdapterCheckpoint: Sendable {
    package let path: String
    package let config: AdapterConfig
    private let source: SafetensorsCheckpoint

    /// Opens the folder at `path`.
    /// - Parameter maxRank: the largest rank there is room for.
    package init(path: String, maxRank: Int) throws(CheckpointError) {
        let folder = path.hasSuffix("/") ? String(path.dropLast()) : path
        let file = folder + "/adapter_config.json"
        config = try AdapterConfig(
            json: Self.content(file, limit: AdapterConfig.maxBytes), file: file, maxRank: maxRank)
        let weights = folder + "/adapter_model.safetensors"
        if !FileManager.default.fileExists(atPath: weights),
            FileManager.default.fileExists(atPath: folder + "/adapter_model.bin")
        {
            throw .unsupported(
                file: folder + "/adapter_model.bin", offset: 0, field: "the format",
                actual: "PyTorch's, a Python pickle",
                supported: "adapter_model.safetensors, which cannot run code when it is read")
        }
        source = try SafetensorsCheckpoint(path: weights)
        self.path = folder
    }

    /// A reader of the tensors in which a layer's begin with "layers.".
    package var weights: WeightReader { WeightReader(source) }

    /// The scope of all names.
    package static let scope = "base_model.model.model"

    /// The bytes of a small file, one more than `limit` at most.
    private static func content(_ file: String, limit: Int) throws(CheckpointError) -> [UInt8] {
        do {
            let handle = try FileHandle(forReadingFrom: URL(filePath: file))
            defer { handle.closeFile() }
            return [UInt8](try handle.read(upToCount: limit + 1) ?? Data())
        } catch {
            throw .cannotOpen(file: file, reason: error.localizedDescription)
        }
    }
}
