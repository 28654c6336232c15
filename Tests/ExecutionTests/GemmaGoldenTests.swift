// Gemma 3 270M against the reference implementation, where the environment has the checkpoint.

import Execution
import Foundation
import Scheduling
import Tensors
import TestSupport
import Testing

/// The path of gemma-3-270m-q4_k_m.gguf, in a variable of its own because only `make test-slow` fetches it.
private let path = ProcessInfo.processInfo.environment["APUS_TEST_GEMMA"]

@Suite(.enabled(if: path != nil)) struct GemmaGoldenTests {
    @Test func `greedy completions in float32 equal those of transformers`() async throws {
        let goldens = try JSONDecoder().decode(
            GoldenCompletions.self, from: Data(contentsOf: Fixtures.url("goldens/gemma3-transformers.json")))
        let engine = try await RealModel.engine(BackendOptions(precision: .float32), path: path)
        for golden in goldens.completions {
            let result = try await engine.generate([golden.prompt_ids], maxNewTokens: golden.output_ids.count)[0]
            #expect(result.tokens == golden.output_ids, "\(golden.prompt)")
        }
        await engine.drain(timeout: .seconds(5))
    }
}
