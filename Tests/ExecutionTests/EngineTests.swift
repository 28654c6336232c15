// The engine's promises around a request's life: ends, aborts, limits, draining, failure.

import Execution
import Foundation
import Models
import Scheduling
import Synchronization
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct EngineTests {
    /// An engine whose device works while it is called, or on its own.
    private func engine(
        _ isDeferred: Bool, configure: (inout EngineConfiguration) -> Void = { _ in }
    ) async throws -> Engine {
        try await RealModel.engine(BackendOptions(deferral: isDeferred ? Deferral() : nil), configure: configure)
    }

    /// Waits until `condition` holds, for at most `limit`.
    private func eventually(within limit: Duration, _ condition: () -> Bool) async throws -> Bool {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            if condition() { return true }
            try await Task.sleep(for: .milliseconds(5))
        }
        return condition()
    }

    @Test(arguments: [false, true])
    func `a stop token ends a sequence and counts as generated`(isDeferred: Bool) async throws {
        let engine = try await engine(isDeferred)
        let golden = try GoldenCompletions.smollm2().completions[0]
        let first = try await engine.generate([golden.prompt_ids], maxNewTokens: 4)[0]
        let stopped = try await engine.generate(
            [golden.prompt_ids], maxNewTokens: 16, stopTokens: [first.tokens[3]])[0]
        #expect(first.reason == .length)
        #expect(stopped.reason == .stop(first.tokens[3]))
        #expect(stopped.tokens.count <= 4)
        await engine.drain(timeout: .seconds(5))
    }

    @Test(arguments: [false, true])
    func `300 requests aborted at random moments leave nothing behind`(isDeferred: Bool) async throws {
        let engine = try await engine(isDeferred) { $0.maxSequences = 16 }
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<300 {
                group.addTask {
                    do {
                        let request = GenerationRequest(
                            id: engine.makeRequestID(),
                            prompt: (0..<(5 + index % 120)).map { TokenID(1000 + ($0 * 31 + index) % 40_000) },
                            maxNewTokens: 200, arrival: engine.now)
                        let stream = try engine.submit(
                            [request], reservation: engine.reserve(requests: 1, promptTokenEstimate: 100))[0]
                        let reader = Task { _ = try await collect(stream) }
                        try await Task.sleep(for: .milliseconds((index * 7919) % 1500))
                        reader.cancel()
                        _ = await reader.result
                    } catch {
                        Issue.record(error)
                    }
                }
            }
        }
        let isEmpty = try await eventually(within: .seconds(1)) {
            let statistics = engine.statistics
            return statistics.running == 0 && statistics.waiting == 0 && statistics.kvUsage == 0
        }
        #expect(isEmpty, "\(engine.statistics)")
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `a full queue refuses with the numbers, and takes more once it moves`() async throws {
        let engine = try await RealModel.engine {
            $0.maxSequences = 1
            $0.maxQueuedRequests = 2
        }
        let first = try engine.reserve(requests: 2, promptTokenEstimate: 10)
        do {
            _ = try engine.reserve(requests: 1, promptTokenEstimate: 10)
            Issue.record("the third request was admitted")
        } catch {
            #expect(
                error.retrying { _ in .zero }
                    == .overloaded(resource: "requests", waiting: 2, limit: 2, retryAfter: .zero))
        }
        _ = consume first
        _ = try engine.reserve(requests: 2, promptTokenEstimate: 10)
        #expect(engine.statistics.rejections.queueFull == 1)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `a deadline that a long prompt cannot meet is refused at once`() async throws {
        let engine = try await RealModel.engine()
        // Now it knows how fast it is.
        _ = try await engine.generate([(0..<400).map { TokenID(1000 + $0) }], maxNewTokens: 2)
        let request = GenerationRequest(
            id: engine.makeRequestID(), prompt: (0..<1500).map { TokenID(3000 + $0) }, maxNewTokens: 2,
            arrival: engine.now, deadline: engine.now + .milliseconds(5))
        let stream = try engine.submit(
            [request], reservation: engine.reserve(requests: 1, promptTokenEstimate: 1500))[0]
        do {
            _ = try await collect(stream)
            Issue.record("1,500 tokens are to be computed in 5 ms")
        } catch EngineError.hopeless(let estimate, let remaining, let retryAfter) {
            #expect(estimate > remaining && retryAfter >= .seconds(1))
        }
        #expect(engine.statistics.rejections.deadline == 1)
        await engine.drain(timeout: .seconds(5))
    }

    @Test(arguments: [false, true])
    func `draining finishes what runs and refuses what comes`(isDeferred: Bool) async throws {
        let engine = try await engine(isDeferred)
        async let generations = engine.generate([[1, 2, 3], [4, 5, 6]], maxNewTokens: 20)
        _ = try await eventually(within: .seconds(5)) { engine.statistics.running == 2 }
        await engine.drain(timeout: .seconds(30))
        #expect(try await generations.allSatisfy { $0.tokens.count == 20 && $0.reason == .length })
        #expect(throws: EngineError.draining) { _ = try engine.reserve(requests: 1, promptTokenEstimate: 1) }
        #expect(engine.health == .draining)
    }

    @Test(arguments: [false, true])
    func `draining ends what is not finished in time`(isDeferred: Bool) async throws {
        let engine = try await engine(isDeferred)
        async let generations = engine.generate([[1, 2, 3]], maxNewTokens: 2000)
        _ = try await eventually(within: .seconds(5)) { engine.statistics.running == 1 }
        await engine.drain(timeout: .milliseconds(50))
        do {
            _ = try await generations
            Issue.record("2000 tokens were generated in 50 ms")
        } catch {
            #expect(error as? EngineError == .shutdown)
        }
    }

    @Test func `a request that comes after the engine ended is told so`() async throws {
        let engine = try await RealModel.engine()
        let request = GenerationRequest(id: engine.makeRequestID(), prompt: [1, 2, 3], maxNewTokens: 4)
        let reservation = try engine.reserve(requests: 1, promptTokenEstimate: 3)
        // Draining waits for the reserved place, but not for ever.
        await engine.drain(timeout: .milliseconds(50))
        do {
            _ = try await collect(engine.submit([request], reservation: reservation)[0])
            Issue.record("a drained engine generated tokens")
        } catch {
            #expect(error as? EngineError == .shutdown)
        }
    }

    @Test func `a place reserved before draining is honoured`() async throws {
        let engine = try await RealModel.engine()
        let request = GenerationRequest(id: engine.makeRequestID(), prompt: [1, 2, 3], maxNewTokens: 4)
        let reservation = try engine.reserve(requests: 1, promptTokenEstimate: 3)
        async let drained: Void = engine.drain(timeout: .seconds(30))
        _ = try await eventually(within: .seconds(5)) { engine.health == .draining }
        let generation = try await collect(engine.submit([request], reservation: reservation)[0])
        #expect(generation.tokens.count == 4)
        await drained
    }

    @Test(arguments: [false, true])
    func `a stop string counts as a stop, not as an abort`(isDeferred: Bool) async throws {
        let engine = try await engine(isDeferred)
        let request = GenerationRequest(id: engine.makeRequestID(), prompt: [1, 2, 3], maxNewTokens: 1000)
        let stream = try engine.submit(
            [request], reservation: engine.reserve(requests: 1, promptTokenEstimate: 3))[0]
        var count = 0
        for await event in stream {
            guard case .token = event else { continue }
            count += 1
            if count == 3 { engine.stop(request.id) }
        }
        #expect(count < 1000)
        #expect(engine.statistics.finished == FinishCounts(stop: 1))
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `what can never run is refused before it is queued`() async throws {
        let engine = try await RealModel.engine { $0.maxModelLength = 128 }
        func submit(_ prompt: [TokenID], maxNewTokens: Int = 1) throws {
            let request = GenerationRequest(id: engine.makeRequestID(), prompt: prompt, maxNewTokens: maxNewTokens)
            _ = try engine.submit(
                [request], reservation: engine.reserve(requests: 1, promptTokenEstimate: prompt.count))
        }
        #expect(throws: EngineError.rejected("The prompt is empty; at least one token is needed.")) { try submit([]) }
        #expect(throws: EngineError.rejected("max_tokens is 0; at least 1 is needed.")) {
            try submit([1], maxNewTokens: 0)
        }
        #expect(throws: EngineError.self) { try submit(Array(repeating: 1, count: 128)) }
        #expect(throws: EngineError.rejected("The prompt holds a token id outside 0 to 49151.")) {
            try submit([49_152])
        }
        #expect(throws: EngineError.rejected("The prompt holds a token id outside 0 to 49151.")) { try submit([-1]) }
        #expect(engine.statistics.waiting == 0)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `a cache too small for one full request is refused with both numbers`() async throws {
        do {
            _ = try await RealModel.engine { $0.blockCountOverride = 127 }
            Issue.record("the engine started")
        } catch let error as EngineError {
            #expect(error.description.contains("needs 128 KV blocks"))
            #expect(error.description.contains("the cache has 127"))
        }
    }
}
