// A model in parts computes what it computes in one: against the reference implementation, against itself in one part,
// and against itself again, bit for bit.

import CPUBackend
import Checkpoints
import Execution
import Models
import Scheduling
import Synchronization
import Tensors
import TestSupport
import Testing

/// The folders of Fixtures/checkpoints: two heads that share one of keys and values.
private let architectures = [
    "gemma2", "gemma3", "gpt-oss", "llama-linear", "llama-yarn", "llama3", "mistral", "mixtral", "phi3", "qwen2",
    "qwen3", "qwen3-moe", "smollm3",
]

@Suite(.serialized) struct TensorParallelTests {
    /// [ranks][tokens, vocab]
    private func logits(
        _ load: @escaping @Sendable (any Backend) throws -> EngineParts, prompt: [TokenID], chunks: [Int], ranks: Int,
        precision: ComputePrecision = .float32, threads: Int = 1
    ) throws -> [[[Float]]] {
        try onRanks(
            RankGroup(count: ranks, deadline: .seconds(20)), precision: precision, threads: threads
        ) { _, backend in
            try FixtureRun(load(backend)).logits(of: prompt, chunks: chunks)
        }.map { try $0.get() }
    }

    private func worst(_ actual: [Float], _ expected: [Float]) -> Float {
        let scale = expected.map(abs).max() ?? 1
        return (zip(actual, expected).map { abs($0 - $1) }.max() ?? .infinity) / scale
    }

    @Test(arguments: architectures)
    func `two ranks compute the reference's logits, and both have the same bits`(_ name: String) throws {
        let fixture = try FixtureCheckpoint(name)
        let prompt = fixture.expected.prompt
        for (precision, allowed, threads) in [(ComputePrecision.float32, Float(2e-5), 1), (.auto, 0.2, 2)] {
            let ranks = try logits(
                { try fixture.parts($0) }, prompt: prompt, chunks: [prompt.count], ranks: 2, precision: precision,
                threads: threads)
            for (row, expected) in zip(fixture.expected.rows, fixture.expected.logits) {
                #expect(worst(ranks[0][row], expected) < allowed, "\(name), row \(row), \(precision)")
            }
            #expect(ranks[0].map { $0.map(\.bitPattern) } == ranks[1].map { $0.map(\.bitPattern) })
            // The sums are in the order of ranks, so that neither time nor chunks change a bit.
            let again = try logits(
                { try fixture.parts($0) }, prompt: prompt, chunks: [7, 1, 16, 1, 1, 14], ranks: 2,
                precision: precision)
            #expect(again[0].map { $0.map(\.bitPattern) } == ranks[0].map { $0.map(\.bitPattern) }, "\(name)")
        }
    }

    /// More heads than the fixtures have: of keys and values as many as ranks, fewer, and more.
    @Test(arguments: [("llama3", 4), ("qwen2", 2), ("gemma3", 1), ("qwen3", 8)], [false, true])
    func `two and four ranks compute what one does`(model: (name: String, kvHeads: Int), isQuantized: Bool) throws {
        let fixture = try FixtureCheckpoint(model.name)
        let config = try fixture.config(with: [
            "num_attention_heads": 8, "num_key_value_heads": model.kvHeads, "head_dim": 32, "hidden_size": 128,
            "intermediate_size": 256,
        ])
        let weights = RandomCheckpoint(config, names: try fixture.tensors().tensorNames, isQuantized: isQuantized)
        let capacity = StepCapacity(tokens: 64, sampledRows: 64)
        let load: @Sendable (any Backend) throws -> EngineParts = { backend in
            EngineParts(
                backend: backend,
                model: try Registry.load(
                    config, weights: WeightReader(weights), capacity: capacity, backend: backend))
        }
        let prompt = fixture.expected.prompt
        let whole = try FixtureRun(load(CPUBackend(precision: .float32, instructionSet: nil, threads: 1)))
            .logits(of: prompt, chunks: [prompt.count])
        for ranks in [2, 4] {
            let parts = try logits(load, prompt: prompt, chunks: [prompt.count], ranks: ranks)
            for (row, expected) in whole.enumerated() {
                #expect(worst(parts[0][row], expected) < 2e-5, "\(model.name), \(ranks) ranks, row \(row)")
            }
            for rank in parts { #expect(rank.map { $0.map(\.bitPattern) } == parts[0].map { $0.map(\.bitPattern) }) }
        }
    }

    @Test func `one rank of a group of one computes the same bits as no group`() throws {
        let fixture = try FixtureCheckpoint("llama3")
        let prompt = fixture.expected.prompt
        let alone = try FixtureRun(fixture.parts(CPUBackend(precision: .auto, instructionSet: nil, threads: 1)))
            .logits(of: prompt, chunks: [prompt.count])
        let rank = try logits(
            { try fixture.parts($0) }, prompt: prompt, chunks: [prompt.count], ranks: 1, precision: .auto)
        #expect(rank[0].map { $0.map(\.bitPattern) } == alone.map { $0.map(\.bitPattern) })
    }

    /// 9 heads, 3 of keys and values, 4-bit weights in blocks of 32 columns.
    @Test func `three ranks write the real model's goldens`() async throws {
        let group = RankGroup(count: 3, deadline: .seconds(20))
        let engine = try await RealModel.engine(ranks: group) { _ in
            BackendOptions(precision: .float32, threads: 1)
        }
        #expect(engine.information.backendSummary.hasSuffix(", 3 ranks"))
        let goldens = try GoldenCompletions.smollm2().completions
        let generations = try await engine.generate(
            goldens.map(\.prompt_ids), maxNewTokens: goldens.map(\.output_ids.count).max() ?? 0, stopTokens: [2])
        for (golden, generation) in zip(goldens, generations) {
            let text = Array(generation.tokens.prefix(golden.output_ids.count))
            #expect(text == golden.output_ids, "prompt: \(golden.prompt)")
        }
        await engine.drain(timeout: .seconds(5))
        #expect(group.failure == nil && engine.failure == nil)
    }

    /// Prompts of different lengths in one batch, prefix hits, samples with a seed: what the first rank decides, all
    /// compute. Again with devices that work on their own, fill their steps up, and are told the next step meanwhile.
    @Test func `an engine on three ranks repeats itself bit for bit, also with steps planned ahead`() async throws {
        let prompts = try GoldenCompletions.smollm2().completions.map(\.prompt_ids)
        var sampling = SamplingParameters(logprobCount: 0)
        sampling.temperature = 0.8
        sampling.seed = 7
        var runs: [[Generation]] = []
        for isDeferred in [false, true] {
            let deferrals = (0..<3).map { _ in Deferral() }
            let engine = try await RealModel.engine(ranks: RankGroup(count: 3, deadline: .seconds(20))) { rank in
                BackendOptions(threads: 1, deferral: isDeferred ? deferrals[rank] : nil)
            }
            for _ in 0..<2 {
                runs.append(try await engine.generate(prompts, maxNewTokens: 12, sampling: sampling))
            }
            await engine.drain(timeout: .seconds(5))
            for deferral in deferrals where isDeferred {
                #expect(deferral.mostInFlight.load(ordering: .relaxed) == 2)
            }
        }
        for run in runs.dropFirst() {
            #expect(run.map(\.tokens) == runs[0].map(\.tokens))
            #expect(run.map { $0.logprobs.map(\.bitPattern) } == runs[0].map { $0.logprobs.map(\.bitPattern) })
        }
    }
}
