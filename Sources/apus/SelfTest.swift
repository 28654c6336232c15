// Before a catalog model is served it says once what it is known to say: a wrong kernel, a damaged file or a tokenizer
// that drifted shows here, and not in a client's answers.

import Execution
import Models
import Scheduling
import Tokenization

/// What came of a model's self-test.
enum SelfTest {
    /// Encodes the entry's prompt and generates greedily; both must be the tokens that are known.
    /// - Throws: `StartupError.selfTestFailed`, and what the engine refuses.
    static func run(_ known: CatalogSelfTest, on running: RunningModel) async throws {
        let prompt = try running.model.tokenizer.encode(known.prompt)
        guard prompt == known.promptTokens.map({ TokenID($0) }) else {
            throw StartupError.selfTestFailed(
                what: "the tokenizer", prompt: known.prompt, actual: prompt.map { Int($0) },
                expected: known.promptTokens)
        }
        let engine = running.engine
        let request = GenerationRequest(
            id: engine.makeRequestID(), prompt: prompt, maxNewTokens: known.tokens.count, stopTokens: [],
            sampling: SamplingParameters(temperature: 0), arrival: engine.now)
        let reservation = try engine.reserve(requests: 1, promptTokenEstimate: prompt.count)
        guard let events = try engine.submit([request], reservation: reservation).first else {
            throw EngineError.shutdown
        }
        var tokens: [Int] = []
        for await event in events { if case .token(let token) = event { tokens.append(Int(token.token)) } }
        guard tokens == known.tokens else {
            throw StartupError.selfTestFailed(
                what: "the model", prompt: known.prompt, actual: tokens, expected: known.tokens)
        }
    }
}
