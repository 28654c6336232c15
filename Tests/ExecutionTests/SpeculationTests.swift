// Guessing ahead changes the number of steps and nothing else: text, log-probabilities and draws are the same bits.

import CPUBackend
import Execution
import Scheduling
import TestSupport
import Testing

@Suite(.serialized) struct SpeculationTests {
    /// A text that repeats itself, as the answers to "echo this" and "change one word of this" do.
    private static let prompts: [[TokenID]] = (0..<4).map { number in
        let phrase = (0..<12).map { TokenID(1000 + 97 * $0 + 13 * number) }
        return phrase + phrase + phrase + phrase.prefix(5)
    }

    @Test(arguments: [Float(0), 0.8])
    func `one stream gives the same tokens in fewer steps`(temperature: Float) async throws {
        let sampling = SamplingParameters(temperature: temperature, seed: 11, logprobCount: 2)
        var results: [[Generation]] = []
        var steps: [Int] = []
        for draftTokenCount in [0, 8] {
            let engine = try await RealModel.engine {
                $0.speculation = SpeculationLimits(draftTokenCount: draftTokenCount)
            }
            var generations: [Generation] = []
            let clock = ContinuousClock()
            let start = clock.now
            for prompt in Self.prompts {
                generations += try await engine.generate([prompt], maxNewTokens: 64, sampling: sampling)
            }
            results.append(generations)
            steps.append(engine.statistics.steps)
            let guessed = engine.statistics.speculation
            print("temperature \(temperature): \(steps.last ?? 0) steps in \(clock.now - start), \(guessed)")
            #expect((guessed.acceptedTokens > 0) == (draftTokenCount > 0))
            await engine.drain(timeout: .seconds(5))
        }
        for (plain, guessed) in zip(results[0], results[1]) {
            #expect(plain.tokens == guessed.tokens)
            #expect(plain.logprobs.map(\.bitPattern) == guessed.logprobs.map(\.bitPattern))
        }
        // Greedy decoding falls into loops; draws leave them.
        #expect(temperature > 0 ? steps[1] < steps[0] : steps[1] * 2 < steps[0])
    }
}
