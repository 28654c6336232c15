// Random schedules on one, two and three ranks whose devices work on their own: nobody can tell how many there are.

import CPUBackend
import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

/// What one client asks for, and when it goes away.
private struct Visit: Sendable {
    let prompt: [TokenID]
    let newTokens: Int
    let sampling: SamplingParameters
    let stopTokens: [TokenID]
    /// Tokens after which nobody listens any more; nil for who stays.
    let patience: Int?
    let arrival: Duration
}

@Suite(.serialized) struct RankScheduleTests {
    private static let vocabulary = 192

    private static func visits(seed: UInt64) -> [Visit] {
        var random = SplitMix64(state: seed)
        let common = (0..<24).map { _ in TokenID.random(in: 0..<TokenID(vocabulary), using: &random) }
        return (0..<30).map { number in
            let own = (0..<Int.random(in: 1...40, using: &random)).map { _ in
                TokenID.random(in: 0..<TokenID(vocabulary), using: &random)
            }
            let isGreedy = Bool.random(using: &random)
            var sampling = SamplingParameters(temperature: isGreedy ? 0 : 0.8, seed: seed &+ UInt64(number))
            if number % 6 == 5 { sampling.logprobCount = 2 }
            return Visit(
                prompt: (number % 3 == 0 ? common : []) + own, newTokens: Int.random(in: 1...60, using: &random),
                sampling: sampling,
                stopTokens: [TokenID.random(in: 0..<TokenID(vocabulary), using: &random)],
                patience: number % 5 == 4 ? Int.random(in: 0...6, using: &random) : nil,
                arrival: .milliseconds(Int.random(in: 0...8, using: &random)))
        }
    }

    /// An engine of a random model of six heads, in so many parts.
    private static func engine(ranks count: Int) async throws -> (Engine, RankGroup) {
        let fixture = try FixtureCheckpoint("llama3")
        let config = try fixture.config(with: [
            "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 16, "hidden_size": 96,
            "intermediate_size": 192, "vocab_size": vocabulary,
        ])
        let weights = RandomCheckpoint(config, names: try fixture.tensors().tensorNames)
        var configuration = EngineConfiguration(availableMemoryBytes: 1 << 30, cacheKey: (1, 2))
        configuration.maxModelLength = 128
        configuration.blockSize = 8
        // Not enough for all: some must give way.
        configuration.blockCountOverride = 20
        configuration.maxSequences = 9
        configuration.tokenBudget = 24
        let group = RankGroup(count: count, deadline: .seconds(20))
        let meeting = RankMeeting(group)
        let engine = try await Engine.start(configuration, group: count == 1 ? nil : group) { [configuration] rank in
            let device = try CPUBackend(
                precision: .float32, instructionSet: nil, threads: 1,
                seat: count == 1 ? nil : RankSeat(meeting, rank: rank))
            let backend = DeferredBackend(device, Deferral())
            return EngineParts(
                backend: backend,
                model: try Registry.load(
                    config, weights: WeightReader(weights), capacity: StepCapacity(configuration, backend: backend),
                    backend: backend))
        }
        return (engine, group)
    }

    /// [visits] What each was told, until it went away.
    private static func answers(
        _ visits: [Visit], ranks count: Int
    ) async throws -> (texts: [[TokenID]], engine: Engine) {
        let (engine, group) = try await engine(ranks: count)
        let texts = try await withThrowingTaskGroup(of: (Int, [TokenID]).self) { tasks in
            for (index, visit) in visits.enumerated() {
                tasks.addTask {
                    try await Task.sleep(for: visit.arrival)
                    let request = GenerationRequest(
                        id: engine.makeRequestID(), prompt: visit.prompt, maxNewTokens: visit.newTokens,
                        stopTokens: visit.stopTokens, sampling: visit.sampling, arrival: engine.now)
                    let reservation = try engine.reserve(requests: 1, promptTokenEstimate: visit.prompt.count)
                    var text: [TokenID] = []
                    for await event in try engine.submit([request], reservation: reservation)[0] {
                        if case .failed(let error) = event { throw error }
                        if case .token(let sample) = event { text.append(sample.token) }
                        if let patience = visit.patience, text.count >= patience { break }
                    }
                    return (index, text)
                }
            }
            var texts: [[TokenID]] = Array(repeating: [], count: visits.count)
            for try await (index, text) in tasks { texts[index] = text }
            return texts
        }
        await engine.drain(timeout: .seconds(10))
        #expect(group.failure == nil && engine.failure == nil)
        return (texts, engine)
    }

    /// Preemptions among ranks.
    private static func compare(seed: UInt64) async throws -> Int {
        let visits = visits(seed: seed)
        var preemptions = 0
        let (expected, _) = try await answers(visits, ranks: 1)
        #expect(expected.contains { $0.count > 24 })
        for count in [2, 3] {
            let (texts, engine) = try await answers(visits, ranks: count)
            for (index, visit) in visits.enumerated() {
                let length = min(visit.patience ?? .max, texts[index].count, expected[index].count)
                #expect(texts[index].prefix(length) == expected[index].prefix(length), "visit \(index), \(count) ranks")
                if visit.patience == nil { #expect(texts[index].count == expected[index].count, "visit \(index)") }
            }
            preemptions += engine.statistics.preemptions
            #expect(engine.statistics.running == 0 && engine.statistics.kvUsage == 0)
        }
        return preemptions
    }

    @Test func `whoever comes and goes, one, two and three ranks write the same texts`() async throws {
        var preemptions = 0
        for seed in 1...4 as ClosedRange<UInt64> { preemptions += try await Self.compare(seed: seed) }
        #expect(preemptions > 0)
    }
}
