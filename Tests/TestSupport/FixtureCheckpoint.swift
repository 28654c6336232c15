// The small checkpoints of `Fixtures/checkpoints`: Hugging Face folders, opened as any other.

import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tensors

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

    /// Its tensors, under the names that models ask for.
    package func tensors() throws -> HuggingFaceTensors {
        HuggingFaceTensors(try SafetensorsCheckpoint(path: folder.path), config: config)
    }

    /// Another configuration of its architecture: config.json with some of its numbers exchanged.
    package func config(with numbers: [String: Int]) throws -> ModelConfig {
        let file = folder.appendingPathComponent("config.json")
        var json = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any] ?? [:]
        for (name, number) in numbers { json[name] = number }
        return try ModelConfig(
            json: Array(JSONSerialization.data(withJSONObject: json)), file: "\(name)/config.json")
    }

    /// The model on a backend.
    package func parts(
        _ backend: any Backend, capacity: StepCapacity = StepCapacity(tokens: 64, sampledRows: 64)
    ) throws -> EngineParts {
        let model = try Registry.load(
            config, weights: WeightReader(tensors()), capacity: capacity, backend: backend)
        return EngineParts(backend: backend, model: model)
    }
}
