// What goes wrong for one request ends that request; what goes wrong for one step is tried again.

import Execution
import Scheduling
import Synchronization
import TestSupport
import Testing

@Suite(.serialized) struct FailureTests {
    /// How a request ended.
    private typealias Outcome = Result<Generation, EngineError>

    /// Eight prompts of 40 tokens with a common first block; that of index 3 has token 4242 in its second.
    private static let prompts: [[TokenID]] = (0..<8).map { index in
        (0..<40).map { position in
            if position < 16 { return TokenID(1000 + position) }
            return index == 3 && position == 20 ? 4242 : TokenID(2000 + 100 * index + position)
        }
    }

    /// Generates 12 tokens for each prompt, all at once.
    private func outcomes(_ engine: Engine, _ prompts: [[TokenID]] = Self.prompts) async throws -> [Outcome] {
        let requests = prompts.map {
            GenerationRequest(
                id: engine.makeRequestID(), prompt: $0, maxNewTokens: 12, sampling: SamplingParameters(logprobCount: 0),
                arrival: engine.now)
        }
        let streams = try engine.submit(
            requests, reservation: engine.reserve(requests: requests.count, promptTokenEstimate: 320))
        var outcomes: [Outcome] = []
        for stream in streams {
            do {
                outcomes.append(.success(try await collect(stream)))
            } catch let error as EngineError {
                outcomes.append(.failure(error))
            }
        }
        return outcomes
    }

    private func bits(_ outcome: Outcome) throws -> [UInt32] { try outcome.get().logprobs.map(\.bitPattern) }

    @Test func `one request whose logits are NaN ends alone, and nobody finds its blocks`() async throws {
        let deferral = Deferral()
        let engine = try await RealModel.engine(BackendOptions(deferral: deferral)) { $0.enablePrefixCaching = true }
        let clean = try await RealModel.engine(BackendOptions(deferral: Deferral()))
        let expected = try await outcomes(clean)
        deferral.poisonedToken.store(4242, ordering: .relaxed)
        let poisoned = try await outcomes(engine)
        for (index, (one, other)) in zip(expected, poisoned).enumerated() where index != 3 {
            #expect(try one.get().tokens == other.get().tokens, "sequence \(index)")
            #expect(try bits(one) == bits(other), "sequence \(index)")
        }
        #expect(throws: EngineError.numericalError) { _ = try poisoned[3].get() }
        #expect(engine.health == .ready && engine.statistics.kvUsage == 0)
        #expect(engine.statistics.finished == FinishCounts(length: 7, error: 1))
        deferral.poisonedToken.store(-1, ordering: .relaxed)
        let again = try await outcomes(engine, [Self.prompts[3]])[0]
        #expect(try again.get().cachedTokens <= 16, "the poisoned second block was found")
        #expect(try again.get().tokens == expected[3].get().tokens)
        #expect(try bits(again) == bits(expected[3]))
        await engine.drain(timeout: .seconds(5))
        await clean.drain(timeout: .seconds(5))
    }

    @Test(arguments: [1, 2, 5, 9])
    func `a step that is lost costs the newest request, and the others' text is the same`(lost: Int) async throws {
        let clean = try await RealModel.engine(BackendOptions(deferral: Deferral()))
        let expected = try await outcomes(clean)
        let engine = try await RealModel.engine(BackendOptions(deferral: Deferral(lostCollects: [lost])))
        let actual = try await outcomes(engine)
        let failed = actual.indices.filter { if case .failure = actual[$0] { true } else { false } }
        #expect(failed.count == 1)
        for index in actual.indices where !failed.contains(index) {
            #expect(try actual[index].get().tokens == expected[index].get().tokens, "sequence \(index)")
            #expect(try bits(actual[index]) == bits(expected[index]), "sequence \(index)")
        }
        #expect(engine.health == .ready)
        #expect(engine.statistics.running == 0 && engine.statistics.kvUsage == 0)
        #expect(engine.statistics.finished == FinishCounts(length: 7, error: 1))
        await engine.drain(timeout: .seconds(5))
        await clean.drain(timeout: .seconds(5))
    }

    @Test func `a step that is lost twice is a device that failed`() async throws {
        let engine = try await RealModel.engine(BackendOptions(deferral: Deferral(lostCollects: Set(4...20))))
        for outcome in try await outcomes(engine) {
            #expect(throws: EngineError.self) { _ = try outcome.get() }
        }
        await engine.waitUntilEnded()
        #expect(engine.health == .failed("A step failed during collect: a test asked for it."))
    }
}
