// Constrained sequences on the real model: what comes out obeys the constraint in every company, and each session sees
// every token once.

import Execution
import Foundation
import Scheduling
import Synchronization
import TestSupport
import Testing

/// Allows, at each place of the text, the tokens of one set; the sets come round again unless the text is to end.
private struct CyclicConstraint: TokenConstraint {
    let sets: [[TokenID]]
    /// The text ends after the last set.
    var isFinite = false
    /// Says that the first token of each set is forced, which is not always so.
    var guesses = false
    /// How long a mask takes.
    var delay = 0.0
    /// Counts the masks.
    var masks: Masks?
    /// The texts that sessions saw, in no order.
    var texts: Texts?

    final class Texts: Sendable {
        let all = Mutex<[[TokenID]]>([])
    }

    final class Masks: Sendable {
        let count = Atomic<Int>(0)
    }

    func makeSession() -> any TokenConstraintSession { Session(self) }

    private final class Session: TokenConstraintSession {
        let constraint: CyclicConstraint
        var seen: [TokenID] = []

        init(_ constraint: CyclicConstraint) { self.constraint = constraint }

        /// What is forced, divided as the sets say; nothing where a set leaves a choice.
        func forcedTokens(limit: Int) -> [TokenID] {
            var place = seen.count
            var forced: [TokenID] = []
            while forced.count < limit, !constraint.isFinite || place < constraint.sets.count {
                let set = constraint.sets[place % constraint.sets.count]
                guard set.count == 1 || constraint.guesses else { break }
                guard let first = set.first else { break }
                forced.append(first)
                place += 1
            }
            return forced
        }

        func copy() -> any TokenConstraintSession {
            var silent = constraint
            silent.texts = nil
            let copy = Session(silent)
            copy.seen = seen
            return copy
        }

        deinit { constraint.texts?.all.withLock { $0.append(seen) } }

        var allowed: [TokenID] {
            isComplete ? [] : constraint.sets[seen.count % constraint.sets.count]
        }

        var isComplete: Bool { constraint.isFinite && seen.count == constraint.sets.count }

        func accept(_ token: TokenID) -> Bool {
            guard allowed.contains(token) else { return false }
            seen.append(token)
            return true
        }

        func fillMask(_ words: inout [UInt32]) {
            Thread.sleep(forTimeInterval: constraint.delay)
            constraint.masks?.count.add(1, ordering: .relaxed)
            for index in words.indices { words[index] = 0 }
            for token in allowed { words[Int(token) / 32] |= 1 << UInt32(token % 32) }
        }
    }
}

@Suite(.serialized) struct ConstraintTests {
    private static let sets: [[TokenID]] = [[260, 28, 504], [281], Array(1000..<9000), [30, 49151, 32, 31]]

    private func requests(
        _ engine: Engine, count: Int, maxNewTokens: Int = 24, texts: CyclicConstraint.Texts? = nil
    ) -> [GenerationRequest] {
        (0..<count).map { index in
            GenerationRequest(
                id: engine.makeRequestID(), prompt: SoloReference.prompts[index], maxNewTokens: maxNewTokens,
                sampling: SamplingParameters(
                    temperature: index % 3 == 0 ? 0 : 1, topP: index % 2 == 0 ? 1 : 0.9, topK: index % 5 * 10, seed: 3,
                    logprobCount: 2, rules: index % 4 == 1 ? LogitRules(repetitionPenalty: 1.2) : nil),
                // Every third is free.
                constraint: index % 3 == 2 ? nil : CyclicConstraint(sets: Self.sets, texts: texts))
        }
    }

    private func run(_ engine: Engine, _ requests: [GenerationRequest]) async throws -> [Generation] {
        let streams = try engine.submit(
            requests, reservation: engine.reserve(requests: requests.count, promptTokenEstimate: 0))
        var generations: [Generation] = []
        for stream in streams { generations.append(try await collect(stream)) }
        return generations
    }

    private func runOne(_ engine: Engine, _ request: GenerationRequest) async throws -> Generation {
        try await run(engine, [request])[0]
    }

    @Test func `constraints hold alike alone, together, preempted and beside a device that works on its own`()
        async throws
    {
        let plain = try await RealModel.engine()
        var alone: [Generation] = []
        for request in requests(plain, count: 9) { alone.append(try await runOne(plain, request)) }
        await plain.drain(timeout: .seconds(5))
        for index in alone.indices where index % 3 != 2 {
            #expect(alone[index].reason == .length && alone[index].tokens.count == 24)
            for (place, token) in alone[index].tokens.enumerated() { #expect(Self.sets[place % 4].contains(token)) }
            // Log-probabilities are those of the free distribution: a token that was forced was not certain.
            #expect(alone[index].logprobs[1] < -0.01)
        }
        for isDeferred in [false, true] {
            let texts = CyclicConstraint.Texts()
            let engine = try await RealModel.engine(BackendOptions(deferral: isDeferred ? Deferral() : nil)) {
                $0.maxSequences = 9
                // Too few for all: some give way and are computed again.
                $0.blockCountOverride = 128
                $0.tokenBudget = 40
                $0.maxModelLength = 2048
                $0.enablePrefixCaching = false
            }
            let together = try await run(engine, requests(engine, count: 9, texts: texts))
            #expect(together.map(\.tokens) == alone.map(\.tokens))
            #expect(together.map(\.logprobs) == alone.map(\.logprobs))
            let statistics = engine.statistics
            #expect(statistics.maskTime.count >= 6 * 16 && statistics.maskWait.count == statistics.maskTime.count)
            await engine.drain(timeout: .seconds(5))
            // The last token is accepted by nobody; everything before it once.
            let expected = alone.indices.filter { $0 % 3 != 2 }.map { Array(alone[$0].tokens.dropLast()) }
            while texts.all.withLock({ $0.count }) < expected.count { try await Task.sleep(for: .milliseconds(1)) }
            #expect(Set(texts.all.withLock { $0 }) == Set(expected))
        }
    }

    @Test func `a preempted session goes on where it was`() async throws {
        let texts = CyclicConstraint.Texts()
        let engine = try await RealModel.engine {
            $0.maxModelLength = 256
            $0.blockCountOverride = 16
            $0.maxSequences = 4
        }
        let requests = (0..<4).map { index in
            GenerationRequest(
                id: engine.makeRequestID(), prompt: (0..<20).map { TokenID(2000 + 50 * index + $0) }, maxNewTokens: 90,
                constraint: CyclicConstraint(sets: Self.sets, texts: texts))
        }
        let generations = try await run(engine, requests)
        #expect(engine.statistics.preemptions > 0)
        for generation in generations {
            #expect(generation.tokens.count == 90)
            for (place, token) in generation.tokens.enumerated() { #expect(Self.sets[place % 4].contains(token)) }
        }
        await engine.drain(timeout: .seconds(5))
        while texts.all.withLock({ $0.count }) < 4 { try await Task.sleep(for: .milliseconds(1)) }
        #expect(Set(texts.all.withLock { $0 }) == Set(generations.map { Array($0.tokens.dropLast()) }))
    }

    @Test(arguments: [false, true])
    func `a finished text ends by its end token, or by itself where there is none`(isDeferred: Bool) async throws {
        let engine = try await RealModel.engine(BackendOptions(deferral: isDeferred ? Deferral() : nil))
        let constraint = CyclicConstraint(sets: [[28], [30, 31], [504]], isFinite: true)
        func request(_ stopTokens: [TokenID], _ rules: LogitRules? = nil) -> GenerationRequest {
            GenerationRequest(
                id: engine.makeRequestID(), prompt: SoloReference.prompts[0], maxNewTokens: 20, stopTokens: stopTokens,
                sampling: SamplingParameters(temperature: 1, seed: 1, rules: rules), constraint: constraint)
        }
        let ended = try await runOne(engine, request([2, 0]))
        #expect(ended.tokens.count == 4 && [.stop(2), .stop(0)].contains(ended.reason))
        let silent = try await runOne(engine, request([]))
        #expect(silent.tokens.count == 3 && silent.reason == .complete)
        // There is nothing that could make it longer.
        let short = try await runOne(engine, request([2], LogitRules(minNewTokens: 10, endTokens: [2])))
        #expect(short.tokens.count == 3 && short.reason == .complete)
        #expect(engine.statistics.finished.stop == 3)
        await engine.drain(timeout: .seconds(5))
    }

    @Test(arguments: [false, true])
    func `a constraint that cannot go on fails its request and no other`(isDeferred: Bool) async throws {
        let engine = try await RealModel.engine(BackendOptions(deferral: isDeferred ? Deferral() : nil))
        let sentence = "No token satisfies both the structure that was asked for and the request's other rules."
        func request(_ sets: [[TokenID]]?, _ rules: LogitRules? = nil) -> GenerationRequest {
            GenerationRequest(
                id: engine.makeRequestID(), prompt: SoloReference.prompts[0], maxNewTokens: 10, stopTokens: [2],
                sampling: SamplingParameters(rules: rules), constraint: sets.map { CyclicConstraint(sets: $0) })
        }
        let requests = [
            request([[28], []]), request([[28], [30]], LogitRules(bannedSequences: [[30]])),
            request([[28], [30]], LogitRules(biases: [TokenBias(token: 30, bias: -.infinity)])),
            request([[28], [30, 31]], LogitRules(allowedTokens: [28, 30])), request(nil),
        ]
        let streams = try engine.submit(
            requests, reservation: engine.reserve(requests: 5, promptTokenEstimate: 0))
        for stream in streams[..<3] {
            await #expect(throws: EngineError.rejected(sentence)) { try await collect(stream) }
        }
        #expect(try await collect(streams[3]).tokens == [28, 30, 28, 30, 28, 30, 28, 30, 28, 30])
        #expect(try await collect(streams[4]).tokens.count == 10)
        #expect(engine.health == .ready)
        await engine.drain(timeout: .seconds(5))
    }

    /// Two tokens are forced, then there is a choice, then two are forced again.
    private static let forcing: [[TokenID]] = [[260, 28, 504], [281], [282], [283], Array(1000..<9000), [30], [31]]

    @Test(arguments: [Float(0), 1], [false, true])
    func `what is forced is computed at once and changes nothing`(temperature: Float, isDeferred: Bool) async throws {
        var results: [[Generation]] = []
        var steps: [Int] = []
        // Where the guesses are wrong nothing changes either.
        for (forcedTokenCount, guesses) in [(0, false), (16, false), (16, true)] {
            let engine = try await RealModel.engine(BackendOptions(deferral: isDeferred ? Deferral() : nil)) {
                $0.speculation = SpeculationLimits(draftTokenCount: 4, forcedTokenCount: forcedTokenCount)
            }
            let requests = (0..<5).map { index in
                GenerationRequest(
                    id: engine.makeRequestID(), prompt: SoloReference.prompts[index], maxNewTokens: 20 + index,
                    sampling: SamplingParameters(
                        temperature: temperature, seed: 3, logprobCount: 2,
                        rules: index == 4 ? LogitRules(repetitionPenalty: 1.2) : nil),
                    constraint: CyclicConstraint(sets: Self.forcing, guesses: guesses))
            }
            results.append(try await run(engine, requests))
            steps.append(engine.statistics.steps)
            let forced = engine.statistics.jumpForward
            #expect((forced.acceptedTokens > 0) == (forcedTokenCount > 0))
            if !guesses { #expect(forced.acceptedTokens == forced.draftTokens) }
            print("temperature \(temperature): \(steps.last ?? 0) steps, \(forced)")
            // Alone, without the one that has penalties and computes one token after another.
            let alone = try await runOne(
                engine,
                GenerationRequest(
                    id: engine.makeRequestID(), prompt: SoloReference.prompts[0], maxNewTokens: 22,
                    sampling: SamplingParameters(temperature: temperature, seed: 3),
                    constraint: CyclicConstraint(sets: Self.forcing, guesses: guesses)))
            #expect(Array(alone.tokens.prefix(20)) == results[0][0].tokens)
            steps[steps.count - 1] = engine.statistics.steps - steps[steps.count - 1]
            await engine.drain(timeout: .seconds(5))
        }
        for other in results.dropFirst() {
            #expect(other.map(\.tokens) == results[0].map(\.tokens))
            #expect(other.map { $0.logprobs.map(\.bitPattern) } == results[0].map { $0.logprobs.map(\.bitPattern) })
        }
        // A period of seven tokens takes two steps: one from the last of the first forced run, one from the second.
        if !isDeferred { #expect(steps[1] * 2 < steps[0] && steps[2] <= steps[0]) }
    }

    @Test(arguments: [false, true])
    func `a forced text that ends the answer ends it by its end token, or by itself`(isDeferred: Bool) async throws {
        let engine = try await RealModel.engine(BackendOptions(deferral: isDeferred ? Deferral() : nil))
        let constraint = CyclicConstraint(sets: [[28], [30], [504], [31]], isFinite: true)
        for stopTokens: [TokenID] in [[2], []] {
            let request = GenerationRequest(
                id: engine.makeRequestID(), prompt: SoloReference.prompts[0], maxNewTokens: 20, stopTokens: stopTokens,
                constraint: constraint)
            let generation = try await runOne(engine, request)
            #expect(generation.tokens == [28, 30, 504, 31] + stopTokens)
            #expect(generation.reason == stopTokens.first.map { .stop($0) } ?? .complete)
        }
        #expect(engine.statistics.jumpForward.acceptedTokens == 6 && engine.health == .ready)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `a mask that is late is waited for, and the wait is counted`() async throws {
        let engine = try await RealModel.engine()
        let late = GenerationRequest(
            id: engine.makeRequestID(), prompt: [504, 281], maxNewTokens: 4,
            constraint: CyclicConstraint(sets: Self.sets, delay: 0.15))
        let generation = try await runOne(engine, late)
        for (place, token) in generation.tokens.enumerated() { #expect(Self.sets[place % 4].contains(token)) }
        let statistics = engine.statistics
        // The second token is forced: nobody waits for its mask, nor for that of the third, alone.
        #expect(statistics.maskTime.count == 3 && statistics.maskTime.sum >= 0.6)
        #expect(statistics.maskWait.sum > 0.1 && statistics.maskWait.sum <= statistics.maskTime.sum + 0.2)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `requests that wait do not keep one that runs from its masks`() async throws {
        let engine = try await RealModel.engine { $0.maxSequences = 1 }
        let running = GenerationRequest(
            id: engine.makeRequestID(), prompt: [504, 281], maxNewTokens: 8,
            constraint: CyclicConstraint(sets: Self.sets))
        let masks = CyclicConstraint.Masks()
        let burst = (0..<20).map { _ in
            GenerationRequest(
                id: engine.makeRequestID(), prompt: [504, 281], maxNewTokens: 1,
                constraint: CyclicConstraint(sets: Self.sets, delay: 0.05, masks: masks))
        }
        let streams = try engine.submit(
            [running] + burst, reservation: engine.reserve(requests: 21, promptTokenEstimate: 0))
        #expect(try await collect(streams[0]).tokens.count == 8)
        // One of theirs may come before each of its own.
        #expect(masks.count.load(ordering: .relaxed) < 16)
        for stream in streams.dropFirst() { #expect(try await collect(stream).tokens.count == 1) }
        #expect(masks.count.load(ordering: .relaxed) == 20)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `constrained requests that are aborted leave nothing behind`() async throws {
        let texts = CyclicConstraint.Texts()
        let engine = try await RealModel.engine()
        for round in 0..<8 {
            let request = GenerationRequest(
                id: engine.makeRequestID(), prompt: SoloReference.prompts[round], maxNewTokens: 500,
                constraint: CyclicConstraint(sets: Self.sets, texts: texts))
            let stream = try engine.submit(
                [request], reservation: engine.reserve(requests: 1, promptTokenEstimate: 0))[0]
            var count = 0
            for await _ in stream {
                count += 1
                if count == round { engine.abort(request.id) }
                if round == 0 { engine.abort(request.id) }
            }
        }
        await engine.drain(timeout: .seconds(5))
        while texts.all.withLock({ $0.count }) < 8 { try await Task.sleep(for: .milliseconds(1)) }
        #expect(engine.statistics.running == 0)
    }
}
