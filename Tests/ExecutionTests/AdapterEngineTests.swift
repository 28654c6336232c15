// Adapters behind an engine: one batch of several, prefixes that are not shared, places that are taken and given back.

import CPUBackend
import Execution
import Foundation
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

/// An engine over a small model, or the real one, with room for adapters.
private struct AdaptedEngine {
    let engine: Engine

    /// - Parameter ranks: how many share the model.
    init(places: Int, deferral: Deferral? = nil, ranks count: Int = 1) async throws {
        var configuration = EngineConfiguration(availableMemoryBytes: 1 << 30, cacheKey: (1, 2))
        configuration.adapters = AdapterLimits(count: places, maxRank: 8)
        configuration.blockCountOverride = 128
        configuration.blockSize = 8
        let group = count == 1 ? nil : RankGroup(count: count, deadline: .seconds(20))
        let meeting = group.map { RankMeeting($0) }
        engine = try await Engine.start(configuration, group: group) { [configuration] rank in
            let device = try CPUBackend(
                precision: .float32, instructionSet: nil, threads: 2, seat: meeting.map { RankSeat($0, rank: rank) })
            let backend: any Backend = deferral.map { DeferredBackend(device, $0) } ?? device
            return try FixtureCheckpoint("llama3").parts(
                backend, capacity: StepCapacity(configuration, backend: backend))
        }
    }

    func load(_ name: String) async throws -> AdapterReference {
        try await engine.loadFixture(name)
    }
}

extension Engine {
    fileprivate func loadFixture(_ name: String) async throws -> AdapterReference {
        guard let layout = information.adapters else { throw EngineError.tooManyAdapters(limit: 0) }
        return try await load(LowRankAdapter(path: FixtureAdapter(name).path, layout: layout), name: name)
    }

    /// Submits all at once, each with its adapter or none.
    fileprivate func begin(
        _ requests: [(prompt: [TokenID], adapter: AdapterReference?)], count: Int = 16
    ) throws -> [AsyncStream<EngineEvent>] {
        let requests = requests.map {
            GenerationRequest(
                id: makeRequestID(), prompt: $0.prompt, maxNewTokens: count, arrival: now, adapter: $0.adapter)
        }
        return try submit(requests, reservation: reserve(requests: requests.count, promptTokenEstimate: 0))
    }

    fileprivate func run(
        _ requests: [(prompt: [TokenID], adapter: AdapterReference?)]
    ) async throws -> [Generation] {
        var generations: [Generation] = []
        for stream in try begin(requests) { generations.append(try await collect(stream)) }
        return generations
    }
}

@Suite(.serialized) struct AdapterEngineTests {
    @Test(arguments: [false, true], [1, 2])
    func `one batch of two adapters and the model gives each its own tokens, on any number of ranks`(
        _ isDeferred: Bool, ranks: Int
    ) async throws {
        let adapted = try await AdaptedEngine(places: 2, deferral: isDeferred ? Deferral() : nil, ranks: ranks)
        let engine = adapted.engine
        let (wide, stable) = (try FixtureAdapter("llama3-wide"), try FixtureAdapter("llama3-stable"))
        let first = try await adapted.load("llama3-wide")
        let second = try await adapted.load("llama3-stable")
        let prompt = wide.expected.prompt
        for _ in 0..<3 {
            let generations = try await engine.run([
                (prompt, first), (prompt, nil), (prompt, second), (prompt, first), (prompt, nil),
            ])
            #expect(generations[0].tokens == wide.expected.greedy && generations[3].tokens == wide.expected.greedy)
            #expect(generations[1].tokens == wide.expected.plain && generations[4].tokens == wide.expected.plain)
            #expect(generations[2].tokens == stable.expected.greedy)
        }
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `a prefix is found again with the same loading of an adapter only`() async throws {
        let adapted = try await AdaptedEngine(places: 2)
        let engine = adapted.engine
        let wide = try FixtureAdapter("llama3-wide")
        let prompt = wide.expected.prompt
        func cached(_ adapter: AdapterReference?) async throws -> Int {
            let generation = try await engine.run([(prompt, adapter)])[0]
            #expect(generation.tokens == (adapter == nil ? wide.expected.plain : wide.expected.greedy))
            return generation.cachedTokens
        }
        let first = try await adapted.load("llama3-wide")
        #expect(try await cached(nil) == 0)
        #expect(try await cached(first) == 0)
        #expect(try await cached(nil) == 32)
        #expect(try await cached(first) == 32)
        // The same file under the same name is another adapter.
        let again = try await adapted.load("llama3-wide")
        #expect(first.id != again.id)
        #expect(try await cached(again) == 0)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `requests in flight keep their adapter, and its place is free when they have ended`() async throws {
        // A step takes its time, so that the requests last longer than what is done meanwhile.
        let adapted = try await AdaptedEngine(places: 1, deferral: Deferral(pace: .milliseconds(10)))
        let engine = adapted.engine
        let wide = try FixtureAdapter("llama3-wide")
        var reference: AdapterReference? = try await adapted.load("llama3-wide")
        let streams = try engine.begin([(wide.expected.prompt, reference), (wide.expected.prompt, nil)], count: 200)
        // Unloaded: only the request holds it now.
        reference = nil
        let refusal = await #expect(throws: EngineError.self) { try await adapted.load("llama3-stable") }
        #expect(refusal == .tooManyAdapters(limit: 1))
        #expect(try await Self.first(16, of: streams[0]) == wide.expected.greedy)
        #expect(try await Self.first(16, of: streams[1]) == wide.expected.plain)
        // Nobody reads them any more, so they end.
        var stable: AdapterReference?
        let deadline = ContinuousClock.now + .seconds(20)
        while stable == nil, ContinuousClock.now < deadline {
            do { stable = try await adapted.load("llama3-stable") } catch EngineError.tooManyAdapters {}
        }
        #expect(stable != nil)
        let generation = try await engine.run([(wide.expected.prompt, stable)])[0]
        #expect(generation.tokens == (try FixtureAdapter("llama3-stable").expected.greedy))
        await engine.drain(timeout: .seconds(5))
        #expect(await #expect(throws: EngineError.self) { try await adapted.load("llama3-wide") } == .shutdown)
    }

    /// The first tokens of a stream; the rest is not wanted.
    private static func first(_ count: Int, of stream: AsyncStream<EngineEvent>) async throws -> [TokenID] {
        var tokens: [TokenID] = []
        for await event in stream {
            switch event {
            case .token(let sample): tokens.append(sample.token)
            case .failed(let error): throw error
            case .promptScores, .pooled, .finished: break
            }
            if tokens.count == count { break }
        }
        return tokens
    }

    @Test func `as many adapters are loaded as there are places, and not one more`() async throws {
        let adapted = try await AdaptedEngine(places: 3)
        var references: [AdapterReference] = []
        for _ in 0..<3 { references.append(try await adapted.load("llama3-stable")) }
        #expect(Set(references.map(\.place)).count == 3)
        await #expect(throws: EngineError.tooManyAdapters(limit: 3)) { try await adapted.load("llama3-wide") }
        references.removeFirst()
        _ = try await adapted.load("llama3-wide")
        await adapted.engine.drain(timeout: .seconds(5))
    }

    @Test func `the memory plan counts room for all adapters of the largest rank`() async throws {
        let one = try await AdaptedEngine(places: 1)
        let three = try await AdaptedEngine(places: 3)
        let bytes = one.engine.information.memory.adapterBytes
        // Of each layer: q, k, v, o, gate, up, down of hidden 32, heads 2 × 64, one of keys, ffn 48.
        let numbers = 2 * ((32 + 128) + (32 + 64) + (32 + 64) + (128 + 32) + (32 + 48) + (32 + 48) + (48 + 32))
        #expect(bytes == numbers * 8 * 4 + 2 * 7 * 4)
        #expect(three.engine.information.memory.adapterBytes == 3 * bytes)
        for engine in [one.engine, three.engine] { await engine.drain(timeout: .zero) }
    }

    @Test func `of two ranks each has room for its part of each adapter`() async throws {
        let adapted = try await AdaptedEngine(places: 1, ranks: 2)
        // Half the outputs of q, gate and up and half the inputs of o and down; k and v are one head, which both have.
        let numbers = 2 * ((32 + 64) + (32 + 64) + (32 + 64) + (64 + 32) + (32 + 24) + (32 + 24) + (24 + 32))
        #expect(adapted.engine.information.memory.adapterBytes == numbers * 8 * 4 + 2 * 7 * 4)
        await adapted.engine.drain(timeout: .zero)
    }

    @Test func `statistics name the adapters that requests wait for and run with`() async throws {
        let adapted = try await AdaptedEngine(places: 2, deferral: Deferral(pace: .milliseconds(10)))
        let engine = adapted.engine
        let reference = try await adapted.load("llama3-wide")
        let prompt = try FixtureAdapter("llama3-wide").expected.prompt
        #expect(engine.statistics.adapters.isEmpty)
        let streams = try engine.begin([(prompt, reference), (prompt, reference), (prompt, nil)], count: 100)
        var seen: [[AdapterUse]] = []
        for await event in streams[0] {
            if case .token = event { seen.append(engine.statistics.adapters) }
        }
        #expect(seen.contains { $0.map(\.name) == ["llama3-wide"] && $0.map(\.running) == [2] })
        #expect(seen.allSatisfy { $0.allSatisfy { $0.running >= 0 && $0.waiting >= 0 } })
        for stream in streams.dropFirst() { _ = try await collect(stream) }
        #expect(engine.statistics.adapters.isEmpty)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `the real model from GGUF with an adapter generates what the reference generates`() async throws {
        let fixture = try FixtureAdapter("smollm2")
        let engine = try await RealModel.engine(BackendOptions(precision: .float32)) {
            $0.adapters = AdapterLimits(count: 1, maxRank: 2)
            $0.maxModelLength = 256
        }
        let reference = try await engine.loadFixture("smollm2")
        let generations = try await engine.run([(fixture.expected.prompt, reference), (fixture.expected.prompt, nil)])
        #expect(generations[0].tokens == fixture.expected.greedy)
        #expect(generations[1].tokens == fixture.expected.plain)
        await engine.drain(timeout: .seconds(5))
    }

    /// Three heads of queries and one of keys each, whose halves GGUF interleaves.
    @Test func `three ranks with an adapter generate what the reference generates`() async throws {
        let fixture = try FixtureAdapter("smollm2")
        let engine = try await RealModel.engine(
            ranks: RankGroup(count: 3, deadline: .seconds(20)),
            { _ in BackendOptions(precision: .float32, threads: 1) },
            configure: {
                $0.adapters = AdapterLimits(count: 1, maxRank: 2)
                $0.maxModelLength = 256
            })
        let reference = try await engine.loadFixture("smollm2")
        let generations = try await engine.run([(fixture.expected.prompt, reference), (fixture.expected.prompt, nil)])
        #expect(generations[0].tokens == fixture.expected.greedy)
        #expect(generations[1].tokens == fixture.expected.plain)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `the real model's logits with an adapter equal the reference's`() throws {
        let fixture = try FixtureAdapter("smollm2")
        let count = fixture.expected.prompt.count
        let parts = try RealModel.parts(
            BackendOptions(precision: .float32),
            capacity: StepCapacity(
                tokens: count, sampledRows: count, adapters: AdapterLimits(count: 1, maxRank: 2)))
        parts.model.adapters?.install(try fixture.adapter(for: parts), at: 0)
        let run = try FixtureRun(parts)
        run.places[0] = 0
        let logits = try run.logits(of: fixture.expected.prompt, chunks: [count])
        for (index, row) in fixture.expected.rows.enumerated() {
            let scale = fixture.expected.logits[index].map(abs).max() ?? 1
            let pairs = zip(fixture.expected.columns[index], fixture.expected.logits[index])
            let worst = pairs.map { abs(logits[row][$0] - $1) }.max() ?? .infinity
            #expect(worst < 1e-4 * scale, "row \(row): \(worst / scale)")
        }
    }
}
