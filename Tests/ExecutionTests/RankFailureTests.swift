// A rank that fails, ends or does not come ends all of them, in time and with a sentence.

import CPUBackend
import Execution
import Foundation
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

/// What goes wrong with a rank.
private enum Fault: Sendable {
    /// Its thread is asleep for so long.
    case sleeps(Duration)
    /// Its thread ends, without a word.
    case ends
}

/// A model that runs for some steps.
private final class FaultyModel: LanguageModel {
    private let model: any LanguageModel
    private let fault: Fault
    private var stepsLeft: Int

    init(_ model: any LanguageModel, _ fault: Fault, afterSteps count: Int) {
        self.model = model
        self.fault = fault
        stepsLeft = count
    }

    var dimensions: ModelDimensions { model.dimensions }
    var logits: Tensor { model.logits }
    var hidden: Tensor { model.hidden }
    var sampledHidden: Tensor { model.sampledHidden }
    var outputNorm: OutputNorm { model.outputNorm }
    var weightBytes: Int { model.weightBytes }
    var activationBytes: Int { model.activationBytes }
    var adapters: AdapterBank? { model.adapters }

    func forward(_ step: ForwardStep, cache: [KVLayer], backend: any Backend) {
        stepsLeft -= 1
        if stepsLeft < 0 {
            switch fault {
            case .sleeps(let duration): Thread.sleep(forTimeInterval: duration / .seconds(1))
            case .ends: Thread.exit()
            }
        }
        model.forward(step, cache: cache, backend: backend)
    }
}

@Suite(.serialized) struct RankFailureTests {
    private static let prompt: [TokenID] = (0..<20).map { 1000 + $0 }

    /// Generates until the group ends; what ended the request, and how long after it was submitted.
    private func outcome(
        _ group: RankGroup, deferral: @escaping @Sendable (Int) -> Deferral? = { _ in nil },
        change: @escaping @Sendable (Int, any LanguageModel) throws -> any LanguageModel = { $1 }
    ) async throws -> (engine: Engine, error: EngineError?, elapsed: Duration) {
        let engine = try await RealModel.engine(
            ranks: group, { BackendOptions(threads: 1, deferral: deferral($0)) }, change: change)
        let start = ContinuousClock.now
        do {
            _ = try await engine.generate([Self.prompt], maxNewTokens: 64)
            return (engine, nil, start.duration(to: .now))
        } catch let error as EngineError {
            await engine.waitUntilEnded()
            return (engine, error, start.duration(to: .now))
        }
    }

    private func requireEnded(_ engine: Engine, _ failure: RankFailure, _ error: EngineError?) {
        #expect(error == .rankFailure(failure))
        #expect(engine.health == .failed(failure.description))
        #expect(engine.failure == .rankFailure(failure))
        #expect(engine.statistics.running == 0 && engine.statistics.finished.error == 1)
    }

    /// Also where the others have asked for more than their devices have done, and wait for the next step.
    @Test(arguments: [Fault.sleeps(.seconds(4)), .ends], [false, true])
    private func `a rank that is late or dead ends all within the deadline`(
        _ fault: Fault, isDeferred: Bool
    ) async throws {
        let group = RankGroup(count: 3, deadline: .milliseconds(700))
        let (engine, error, elapsed) = try await outcome(
            group, deferral: { _ in isDeferred ? Deferral() : nil },
            change: { rank, model in
                rank == 2 ? FaultyModel(model, fault, afterSteps: 3) : model
            })
        let failure = try #require(group.failure)
        #expect(failure.shard == Shard(rank: 2, of: 3) && failure.elapsed == .milliseconds(700))
        #expect(failure.call.hasPrefix("sum "))
        let sentence = "Rank 2 of 3 ended the group in \(failure.call) after 0.7 s: it did not come."
        #expect(failure.description == sentence)
        requireEnded(engine, failure, error)
        #expect(elapsed < .seconds(3.5), "\(elapsed)")
    }

    @Test(arguments: [false, true])
    func `the first rank may be the late one`(isDeferred: Bool) async throws {
        let group = RankGroup(count: 3, deadline: .milliseconds(500))
        let (engine, error, _) = try await outcome(
            group, deferral: { _ in isDeferred ? Deferral() : nil },
            change: { rank, model in
                rank == 0 ? FaultyModel(model, .sleeps(.seconds(1.5)), afterSteps: 2) : model
            })
        let failure = try #require(group.failure)
        #expect(failure.shard.rank == 0 && failure.reason == "did not come")
        requireEnded(engine, failure, error)
    }

    @Test func `a rank that fails in a step says why`() async throws {
        let group = RankGroup(count: 3, deadline: .seconds(10))
        let (engine, error, elapsed) = try await outcome(
            group, deferral: { Deferral(collectLimit: $0 == 1 ? 4 : .max) })
        let failure = try #require(group.failure)
        #expect(failure.shard == Shard(rank: 1, of: 3) && failure.call == "a step")
        #expect(failure.reason == "failed: The device failed during collect: a test asked for it")
        requireEnded(engine, failure, error)
        #expect(elapsed < .seconds(5), "nobody waited for the deadline: \(elapsed)")
    }

    @Test func `a rank that ends while nothing runs ends the engine too`() async throws {
        let group = RankGroup(count: 3, deadline: .seconds(10))
        let engine = try await RealModel.engine(ranks: group) { _ in BackendOptions(threads: 1) }
        _ = try await engine.generate([Self.prompt], maxNewTokens: 4)
        let failure = RankFailure(Shard(rank: 1, of: 3), call: "a step", elapsed: .zero, reason: "was unplugged")
        group.end(failure)
        await engine.waitUntilEnded()
        #expect(engine.health == .failed(failure.description) && engine.failure == .rankFailure(failure))
        #expect(throws: EngineError.self) { _ = try engine.reserve(requests: 1, promptTokenEstimate: 1) }
    }

    @Test func `a rank that cannot load is the reason why the engine does not start`() async throws {
        struct NoDevice: Error, Equatable {}
        let group = RankGroup(count: 3, deadline: .milliseconds(500))
        await #expect(throws: NoDevice()) {
            _ = try await RealModel.engine(ranks: group, { _ in BackendOptions(threads: 1) }) { rank, model in
                if rank == 1 { throw NoDevice() }
                return model
            }
        }
        #expect(group.failure?.shard.rank == 1 && group.failure?.call == "loading")
    }

    @Test func `a group that has ended stays so, with its first failure`() {
        let group = RankGroup(count: 3, deadline: .seconds(1))
        let first = RankFailure(Shard(rank: 1, of: 3), call: "sum 3", elapsed: .seconds(1), reason: "did not come")
        group.end(first)
        group.end(RankFailure(Shard(rank: 0, of: 3), call: "sum 4", elapsed: .zero, reason: "did not come"))
        #expect(group.failure == first)
        let outcome = onRanks(group) { _, backend in
            let x = try backend.allocate([4], .f32, purpose: "test")
            backend.collectives?.sum(x)
            try backend.synchronize()
        }
        for rank in outcome { #expect(throws: BackendError.rankFailure(first)) { try rank.get() } }
    }
}
