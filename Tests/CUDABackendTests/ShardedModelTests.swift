// Models in parts on the emulated device: every rank with its own thread, backend, part of the weights and part of the
// cache, near what one rank computes of the whole.

import CUDABackend
import CUDAEmulator
import Checkpoints
import Execution
import Models
import NCCLStub
import Scheduling
import Tensors
import TestSupport
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct ShardedModelTests {
        init() { cuda_emulator_reset() }

        /// A fixture, or a larger model of its architecture with random weights: eight heads of 64.
        private struct Model: Sendable {
            let fixture: FixtureCheckpoint
            let load: @Sendable (any Backend, StepCapacity) throws -> EngineParts

            init(_ name: String) throws {
                let fixture = try FixtureCheckpoint(name)
                self.fixture = fixture
                load = { try fixture.parts($0, capacity: $1) }
            }

            init(_ name: String, kvHeads: Int, isQuantized: Bool) throws {
                let fixture = try FixtureCheckpoint(name)
                let config = try fixture.config(with: [
                    "num_attention_heads": 8, "num_key_value_heads": kvHeads, "head_dim": 64, "hidden_size": 128,
                    "intermediate_size": 256,
                ])
                let weights = RandomCheckpoint(
                    config, names: try fixture.tensors().tensorNames, isQuantized: isQuantized)
                self.fixture = fixture
                load = { backend, capacity in
                    EngineParts(
                        backend: backend,
                        model: try Registry.load(
                            config, weights: WeightReader(weights), capacity: capacity, backend: backend))
                }
            }
        }

        private let capacity = StepCapacity(tokens: 64, sampledRows: 64)

        /// [ranks] [tokens, vocab] Logits of the fixture's prompt, in chunks.
        private func logits(_ model: Model, _ count: Int, _ exchange: EmulatedExchange) throws -> [[[Float]]] {
            let prompt = model.fixture.expected.prompt
            let ranks = try CUDARanks(
                RankGroup(count: count, deadline: .seconds(60)), exchange: exchange.prepare())
            return try onRanks(count) { [capacity] shard in
                let backend = try EmulatedDevice.backend(ranks, shard)
                return try FixtureRun(model.load(backend, capacity)).logits(of: prompt, chunks: [prompt.count - 9, 9])
            }.map { try $0.get() }
        }

        private func compare(_ model: Model, _ count: Int, _ exchange: EmulatedExchange) throws {
            let prompt = model.fixture.expected.prompt
            let one = try FixtureRun(model.load(EmulatedDevice.backend { $0.usesGraphs = false }, capacity))
                .logits(of: prompt, chunks: [prompt.count - 9, 9])
            let parts = try logits(model, count, exchange)
            let bits = parts.map { $0.map { $0.map(\.bitPattern) } }
            for rank in 1..<count { #expect(bits[rank] == bits[0], "rank \(rank)") }
            #expect(try logits(model, count, exchange)[0].map { $0.map(\.bitPattern) } == bits[0])
            for (row, expected) in one.enumerated() {
                let scale = expected.map(abs).max() ?? 1
                let worst = zip(parts[0][row], expected).map { abs($0 - $1) }.max() ?? .infinity
                // What one bit of a bf16 activation is worth, here and there; a router may choose other experts.
                let allowed: Float = model.fixture.config.experts == nil ? 0.03 : 0.12
                #expect(worst < allowed * scale, "row \(row): \(worst / scale)")
            }
        }

        @Test(arguments: ["llama3", "qwen2", "gemma2", "gemma3", "phi3", "mixtral"], EmulatedExchange.allCases)
        func `two ranks are near one, and agree to the last bit`(name: String, exchange: EmulatedExchange) throws {
            try compare(Model(name), 2, exchange)
        }

        /// With as many heads of keys and values as ranks, and with fewer.
        @Test(arguments: [("llama3", 4), ("qwen2", 2), ("gemma3", 1)], [false, true])
        func `four ranks are near one, and agree to the last bit`(
            model: (name: String, kvHeads: Int), isQuantized: Bool
        ) throws {
            try compare(Model(model.name, kvHeads: model.kvHeads, isQuantized: isQuantized), 4, .nccl)
        }

        @Test(arguments: ["llama3-wide", "phi3-stacked"])
        func `two ranks with an adapter are near the reference, and agree to the last bit`(name: String) throws {
            let expected = try FixtureAdapter(name).expected
            let model = try Model(name.hasPrefix("phi3") ? "phi3" : "llama3")
            let room = StepCapacity(tokens: 64, sampledRows: 64, adapters: AdapterLimits(count: 2, maxRank: 8))
            let ranks = try CUDARanks(
                RankGroup(count: 2, deadline: .seconds(60)), exchange: EmulatedExchange.nccl.prepare())
            let logits = try onRanks(2) { shard in
                let parts = try model.load(EmulatedDevice.backend(ranks, shard), room)
                parts.model.adapters?.install(try FixtureAdapter(name).adapter(for: parts), at: 1)
                let run = try FixtureRun(parts)
                run.places[0] = 1
                return try run.logits(of: expected.prompt, chunks: [expected.prompt.count])
            }.map { try $0.get() }
            #expect(logits[0].map { $0.map(\.bitPattern) } == logits[1].map { $0.map(\.bitPattern) })
            for (index, row) in expected.rows.enumerated() {
                let scale = expected.logits[index].map(abs).max() ?? 1
                let pairs = zip(expected.columns[index], expected.logits[index])
                let worst = pairs.map { abs(logits[0][row][$0] - $1) }.max() ?? .infinity
                #expect(worst < 0.08 * scale, "row \(row): \(worst / scale)")
            }
        }

        /// Sums of a group of one are copies, by the kernels of many: alone, or with the norms that follow them.
        @Test(arguments: ["llama3", "gemma3", "mixtral"])
        func `a group of one computes the bits of none`(name: String) throws {
            let model = try Model(name)
            let prompt = model.fixture.expected.prompt
            let ranks = try CUDARanks(RankGroup(count: 1, deadline: .seconds(60)), exchange: .peers)
            let bits = try [true, false].map { isRank in
                let backend = try EmulatedDevice.backend { $0.usesGraphs = false }
                if isRank { try backend.join(ranks, as: .whole) }
                return try FixtureRun(model.load(backend, capacity)).logits(of: prompt, chunks: [prompt.count - 9, 9])
                    .map { $0.map(\.bitPattern) }
            }
            #expect(bits[0] == bits[1])
        }

        @Test(arguments: [2, 4])
        func `an engine with ranks gives the tokens of one without, captured or not`(count: Int) async throws {
            let model = try count == 2 ? Model("llama3") : Model("llama3", kvHeads: 4, isQuantized: false)
            let prompt = model.fixture.expected.prompt
            func answer(_ group: RankGroup?, _ exchange: EmulatedExchange, usesGraphs: Bool) async throws -> [[TokenID]]
            {
                var configuration = EngineConfiguration(availableMemoryBytes: 1 << 30, cacheKey: (1, 2))
                configuration.maxModelLength = 96
                configuration.blockCountOverride = 64
                configuration.maxSequences = 4
                configuration.tokenBudget = 16
                let ranks = try group.map { try CUDARanks($0, exchange: exchange.prepare()) }
                let engine = try await Engine.start(configuration, group: group) { [configuration] rank in
                    let backend = try EmulatedDevice.backend { $0.usesGraphs = usesGraphs }
                    if let ranks { try backend.join(ranks, as: Shard(rank: rank, of: ranks.group.count)) }
                    return try model.load(backend, StepCapacity(configuration, backend: backend))
                }
                let prompts = (0..<3).map { Array(prompt.suffix(40 - 3 * $0)) }
                let answers = try await engine.generate(prompts, maxNewTokens: 12)
                await engine.drain(timeout: .seconds(10))
                return answers.map(\.tokens)
            }
            let one = try await answer(nil, .nccl, usesGraphs: true)
            for (exchange, usesGraphs) in [(EmulatedExchange.nccl, true), (.nccl, false), (.oneDevice, false)] {
                let group = RankGroup(count: count, deadline: .seconds(60))
                #expect(try await answer(group, exchange, usesGraphs: usesGraphs) == one, "\(exchange), \(usesGraphs)")
                #expect(group.failure == nil)
            }
        }

        @Test func `an engine whose rank hangs fails with a sentence, within the deadline`() async throws {
            let exchange = try EmulatedExchange.nccl.prepare()
            nccl_stub_fail(1, Int32(NCCL_STUB_HANGS), 40, 0)
            let group = RankGroup(count: 2, deadline: .milliseconds(500))
            let ranks = try CUDARanks(group, exchange: exchange)
            var configuration = EngineConfiguration(availableMemoryBytes: 1 << 30, cacheKey: (1, 2))
            configuration.blockCountOverride = 64
            configuration.maxSequences = 4
            let engine = try await Engine.start(configuration, group: group) { [configuration] rank in
                let backend = try EmulatedDevice.backend { $0.usesGraphs = false }
                try backend.join(ranks, as: Shard(rank: rank, of: 2))
                return try FixtureCheckpoint("llama3").parts(
                    backend, capacity: StepCapacity(configuration, backend: backend))
            }
            let prompt = try FixtureCheckpoint("llama3").expected.prompt
            await #expect(throws: (any Error).self) { _ = try await engine.generate([prompt], maxNewTokens: 30) }
            #expect(group.failure?.description.contains("ended the group in a step after") == true)
            #expect(nccl_stub_aborted() == 2)
            await engine.drain(timeout: .seconds(5))
        }
    }
}
