// Reference completions, and the folder the fixtures lie in.

import Foundation
import Scheduling

extension Double {
    static func exponential(_ x: Double) -> Double { exp(x) }
    static func logarithm(_ x: Double) -> Double { log(x) }
}

/// Files under `Tests/Fixtures`.
package enum Fixtures {
    package static func url(_ path: String, from file: String = #filePath) -> URL {
        URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures").appendingPathComponent(path)
    }
}

/// Greedy completions made with the reference implementation.
package struct GoldenCompletions: Decodable {
    package struct Completion: Decodable {
        package let prompt: String
        package let prompt_ids: [TokenID]
        package let output_ids: [TokenID]
    }

    package let completions: [Completion]

    package static func smollm2() throws -> GoldenCompletions {
        try JSONDecoder().decode(
            GoldenCompletions.self, from: Data(contentsOf: Fixtures.url("goldens/smollm2-transformers.json")))
    }
}
