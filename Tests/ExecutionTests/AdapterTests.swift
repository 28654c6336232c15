// Adapters against the reference implementation, in company, and through an engine.

import CPUBackend
import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

/// Adapters of Fixtures/adapters and the models they change.
private let fixtures = [("llama3-wide", "llama3"), ("llama3-stable", "llama3"), ("phi3-stacked", "phi3")]

/// Room for two small adapters.
private let capacity = StepCapacity(
    tokens: 64, sampledRows: 64, adapters: AdapterLimits(count: 2, maxRank: 8))

private func backend(_ precision: ComputePrecision = .float32, threads: Int = 2) throws -> CPUBackend {
    try CPUBackend(precision: precision, instructionSet: nil, threads: threads)
}

private func bits(_ rows: [[Float]]) -> [[UInt32]] { rows.map { $0.map(\.bitPattern) } }

struct AdapterTests {
    @Test(arguments: fixtures)
    func `logits equal the reference's, and greedy tokens too`(_ name: String, _ model: String) throws {
        let fixture = try FixtureAdapter(name)
        let expected = fixture.expected
        let parts = try FixtureCheckpoint(model).parts(backend(), capacity: capacity)
        parts.model.adapters?.install(try fixture.adapter(for: parts), at: 1)
        let run = try FixtureRun(parts)
        run.places[0] = 1
        var tokens = expected.prompt
        var logits = try run.logits(of: tokens, chunks: [tokens.count])
        for (index, row) in expected.rows.enumerated() {
            let scale = expected.logits[index].map(abs).max() ?? 1
            let worst = zip(expected.columns[index], expected.logits[index]).map { abs(logits[row][$0] - $1) }.max()
            #expect((worst ?? .infinity) < 2e-5 * scale, "\(name), row \(row)")
        }
        for token in expected.greedy {
            #expect(logits.last?.best == Int(token))
            tokens.append(token)
            logits = try run.logits(of: tokens, chunks: [1], isFirst: false)
        }
        #expect(expected.greedy != expected.plain)
    }

    /// The sums of ranks are rounded elsewhere, and no more than that.
    @Test(arguments: fixtures)
    func `on two ranks logits equal the reference's too, and both have the same bits`(
        _ name: String, _ model: String
    ) throws {
        let expected = try FixtureAdapter(name).expected
        let ranks = try onRanks(RankGroup(count: 2, deadline: .seconds(20))) { _, backend in
            let parts = try FixtureCheckpoint(model).parts(backend, capacity: capacity)
            parts.model.adapters?.install(try FixtureAdapter(name).adapter(for: parts), at: 1)
            let run = try FixtureRun(parts)
            run.places[0] = 1
            return try run.logits(of: expected.prompt, chunks: [expected.prompt.count])
        }.map { try $0.get() }
        for (index, row) in expected.rows.enumerated() {
            let scale = expected.logits[index].map(abs).max() ?? 1
            let worst = zip(expected.columns[index], expected.logits[index]).map { abs(ranks[0][row][$0] - $1) }.max()
            #expect((worst ?? .infinity) < 2e-5 * scale, "\(name), row \(row)")
        }
        #expect(bits(ranks[0]) == bits(ranks[1]))
    }

    @Test(arguments: [ComputePrecision.float32, .auto])
    func `rows of two adapters and of none keep their bits in one step`(_ precision: ComputePrecision) throws {
        let checkpoint = try FixtureCheckpoint("llama3")
        let prompt = checkpoint.expected.prompt
        let plain = try FixtureRun(checkpoint.parts(backend(precision, threads: 1)))
        let without = try plain.logits(of: prompt, chunks: [prompt.count])
        let parts = try checkpoint.parts(backend(precision), capacity: capacity)
        for (place, name) in ["llama3-wide", "llama3-stable"].enumerated() {
            parts.model.adapters?.install(try FixtureAdapter(name).adapter(for: parts), at: place)
        }
        // Prefixes of the prompt that end at 40, 35 and 29 tokens, each with a choice of its own.
        for places in [[-1, 0, 1], [0, 1, -1], [1, -1, 0], [0, 0, 0]] as [[Int32]] {
            let run = try FixtureRun(parts)
            run.places = places
            let together = try run.logits(ofThree: prompt)
            for (sequence, place) in places.enumerated() {
                let length = prompt.count - [0, 5, 11][sequence]
                let alone = try FixtureRun(parts)
                alone.places[0] = place
                let rows = try alone.logits(of: Array(prompt[..<length]), chunks: [length])
                #expect(bits([together[sequence]]) == bits([rows[length - 1]]), "\(places), sequence \(sequence)")
                if place < 0 { #expect(bits(rows) == bits(Array(without[..<length]))) }
            }
            // Chunks change no bit either.
            let chunked = try FixtureRun(parts)
            chunked.places[0] = places[0]
            let whole = try FixtureRun(parts)
            whole.places[0] = places[0]
            #expect(
                bits(try chunked.logits(of: prompt, chunks: [7, 1, 16, 1, 1, 14]))
                    == bits(try whole.logits(of: prompt, chunks: [prompt.count])))
        }
    }

    @Test func `a place that is used again holds nothing of the adapter before`() throws {
        let checkpoint = try FixtureCheckpoint("llama3")
        let prompt = checkpoint.expected.prompt
        let parts = try checkpoint.parts(backend(), capacity: capacity)
        let stable = try FixtureAdapter("llama3-stable").adapter(for: parts)
        func logits() throws -> [[Float]] {
            let run = try FixtureRun(parts)
            run.places[0] = 0
            return try run.logits(of: prompt, chunks: [prompt.count])
        }
        parts.model.adapters?.install(stable, at: 0)
        let first = try logits()
        parts.model.adapters?.install(try FixtureAdapter("llama3-wide").adapter(for: parts), at: 0)
        #expect(bits(try logits()) != bits(first))
        parts.model.adapters?.install(stable, at: 0)
        #expect(bits(try logits()) == bits(first))
    }

    @Test func `rank 6 has room where the limit is 6, and is refused where it is 5`() throws {
        let checkpoint = try FixtureCheckpoint("llama3")
        func open(_ limit: Int) throws -> LowRankAdapter {
            let parts = try checkpoint.parts(
                backend(),
                capacity: StepCapacity(
                    tokens: 64, sampledRows: 64, adapters: AdapterLimits(count: 1, maxRank: limit)))
            return try FixtureAdapter("llama3-stable").adapter(for: parts)
        }
        _ = try open(6)
        #expect(throws: CheckpointError.self) { try open(5) }
        _ = try checkpoint.parts(
            backend(),
            capacity: StepCapacity(tokens: 8, sampledRows: 8, adapters: AdapterLimits(count: 1, maxRank: 256)))
        #expect(throws: BackendError.self) {
            try checkpoint.parts(
                backend(),
                capacity: StepCapacity(tokens: 8, sampledRows: 8, adapters: AdapterLimits(count: 1, maxRank: 257)))
        }
    }

    @Test func `an adapter of another model is refused by the tensor's name`() throws {
        let parts = try FixtureCheckpoint("llama3").parts(backend(), capacity: capacity)
        let refusal = #expect(throws: CheckpointError.self) {
            try FixtureAdapter("phi3-stacked").adapter(for: parts)
        }
        #expect(refusal?.description.contains("base_model.model.model.layers.0.") == true)
    }
}

extension [Float] {
    /// Index of the largest element.
    fileprivate var best: Int? { indices.max { self[$0] < self[$1] } }
}
