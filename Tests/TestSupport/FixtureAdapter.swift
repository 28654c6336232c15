// The small adapters of `Fixtures/adapters`: PEFT folders, opened as any other.

import Execution
import Foundation
import Models
import Scheduling

/// A random adapter, and what the reference implementation computes with it.
package struct FixtureAdapter {
    /// What make_adapters.py wrote.
    package struct Expected: Decodable {
        package let prompt: [TokenID]
        package let greedy: [TokenID]
        /// Greedy tokens of the model alone.
        package let plain: [TokenID]
        package let rows: [Int]
        /// [rows] Which logits are told.
        package let columns: [[Int]]
        package let logits: [[Float]]
    }

    package let path: String
    package let expected: Expected

    package init(_ name: String) throws {
        let folder = Fixtures.url("adapters/\(name)")
        path = folder.path
        expected = try JSONDecoder().decode(
            Expected.self, from: Data(contentsOf: folder.appendingPathComponent("expected.json")))
    }

    /// Opens it for a model that runs.
    package func adapter(for parts: EngineParts) throws -> LowRankAdapter {
        guard let layout = parts.model.adapters?.layout else { throw EngineError.tooManyAdapters(limit: 0) }
        return try LowRankAdapter(path: path, layout: layout)
    }
}
