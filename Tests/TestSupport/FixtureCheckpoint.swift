// The small checkpoints of `Fixtures/checkpoints`, read without any of the code that reads checkpoints in earnest.

import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tensors

/// A safetensors file in memory.
@safe
package final class SafetensorsFixture: TensorSource {
    package let path: String
    package let tensorNames: [String]
    private let content: UnsafeMutableRawBufferPointer
    private let entries: [String: (dtype: DType, shape: [Int], range: Range<Int>)]

    package init(_ url: URL) throws {
        path = url.path
        let data = try Data(contentsOf: url)
        unsafe content = UnsafeMutableRawBufferPointer.allocate(byteCount: data.count, alignment: 64)
        unsafe data.copyBytes(to: content)
        let headerSize = Int(unsafe content.loadUnaligned(as: UInt64.self))
        let header = try JSONSerialization.jsonObject(with: data[8..<8 + headerSize]) as? [String: Any] ?? [:]
        var entries: [String: (dtype: DType, shape: [Int], range: Range<Int>)] = [:]
        for case (let name, let value as [String: Any]) in header where name != "__metadata__" {
            guard let dtype = (value["dtype"] as? String).flatMap({ ["BF16": DType.bf16, "F32": .f32][$0] }),
                let shape = value["shape"] as? [Int], let offsets = value["data_offsets"] as? [Int]
            else { continue }
            entries[name] = (dtype, shape, 8 + headerSize + offsets[0]..<8 + headerSize + offsets[1])
        }
        self.entries = entries
        tensorNames = entries.keys.sorted()
    }

    deinit { unsafe content.deallocate() }

    package func storedTensor(_ name: String) -> SourceTensor? {
        guard let entry = entries[name] else { return nil }
        let bytes = unsafe UnsafeRawBufferPointer(rebasing: content[entry.range])
        return SourceTensor(
            tensor: unsafe StoredTensor(
                name: name, dtype: entry.dtype, shape: entry.shape, bytes: bytes, owner: self), infoOffset: 0)
    }

    package func requireUnchanged() {}
}

/// A random model, and what the reference implementation computes with it.
package struct FixtureCheckpoint {
    /// What make_checkpoints.py wrote.
    package struct Expected: Decodable {
        package let prompt: [TokenID]
        package let greedy: [TokenID]
        package let rows: [Int]
        package let logits: [[Float]]
    }

    package let name: String
    package let config: ModelConfig
    package let expected: Expected
    private let folder: URL

    package init(_ name: String) throws {
        self.name = name
        folder = Fixtures.url("checkpoints/\(name)")
        let file = folder.appendingPathComponent("config.json")
        config = try ModelConfig(json: Array(Data(contentsOf: file)), file: "\(name)/config.json")
        expected = try JSONDecoder().decode(
            Expected.self, from: Data(contentsOf: folder.appendingPathComponent("expected.json")))
    }

    /// The model on a backend.
    package func parts(
        _ backend: any Backend, capacity: StepCapacity = StepCapacity(tokens: 64, sampledRows: 64)
    ) throws -> EngineParts {
        let source = try SafetensorsFixture(folder.appendingPathComponent("model.safetensors"))
        let model = try Registry.load(
            config, weights: WeightReader(HuggingFaceTensors(source, config: config)), capacity: capacity,
            backend: backend)
        return EngineParts(backend: backend, model: model)
    }
}
