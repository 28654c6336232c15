// Which operations `apus bench kernels` measures, in which shapes, and what each has to read, write and multiply.
//
// Through the `Backend` protocol alone. What is most worth knowing comes first, so that a run that is stopped has it.

import Checkpoints
import Tensors

/// An operation in a shape.
package struct KernelCase {
    /// The operation and what it works on: "linear q4_0 down".
    package let name: String
    /// Words with numbers: "tokens=16 rows=4096 columns=14336".
    package let shape: String
    let prepare: (KernelOperands) throws -> PreparedKernel
}

/// A case that is ready to be timed.
struct PreparedKernel {
    /// The same operation on different copies of what it streams.
    let calls: [() -> Void]
    /// Read and written by one call, each byte once.
    let bytes: Int
    /// Multiplications and additions of one call; 0 where they are beside the point.
    var operations = 0
    var canBeCaptured = true
    /// Ends what the calls have begun.
    var finish: () throws -> Void = {}
}

/// The shapes to measure in.
package enum KernelShapes: String, CaseIterable, Sendable {
    /// SmolLM2-135M: seconds on a CPU.
    case small
    /// Llama-3.1-8B and Llama-3.2-1B.
    case llama

    /// Bytes of all copies of a streamed operand: several times the last-level cache, where that is a GPU's.
    package var coldBytes: Int { self == .small ? 32 << 20 : 256 << 20 }

    private var models: [ModelShape] {
        ModelShape.all.filter { (self == .small) == ($0.name == "smollm2-135m") }
    }

    private var tokenCounts: [Int] { self == .small ? [1, 16] : [1, 16, 64, 256, 2048] }

    /// (sequences, query, context) of attention.
    private var contexts: [(Int, Int, Int)] {
        self == .small
            ? [(1, 1, 256), (4, 1, 256), (1, 128, 128)]
            : [(1, 1, 1024), (16, 1, 1024), (64, 1, 1024), (64, 1, 4096), (1, 2048, 2048), (1, 8192, 8192)]
    }

    private var rowCounts: [Int] { self == .small ? [1, 16] : [1, 64, 2048] }
    private var sampledRowCounts: [Int] { self == .small ? [1, 4] : [1, 64] }

    /// All cases.
    package var cases: [KernelCase] {
        let configs = models.map(\.config)
        var cases: [KernelCase] = []
        // The tables of the last matrix, the head, are also what `embed` reads.
        for config in configs { cases += linearCases(config, .bf16) + embedCases(config) }
        for config in configs { cases += attentionCases(config) + rowCases(config) }
        for vocabulary in Set(configs.map(\.vocabSize)).sorted() { cases += sampleCases(vocabulary) }
        for config in configs {
            for dtype in [DType.q4_0, .q4_1, .q8_0] { cases += linearCases(config, dtype) }
        }
        return cases
    }

    // MARK: Matrices

    private func linearCases(_ config: ModelConfig, _ dtype: DType) -> [KernelCase] {
        let queries = config.headCount * config.headDim
        let matrices = [
            ("gate-up", 2 * config.ffnSize, config.hiddenSize), ("down", config.hiddenSize, config.ffnSize),
            ("qkv", queries + 2 * config.kvHeadCount * config.headDim, config.hiddenSize),
            ("o", config.hiddenSize, queries), ("head", config.vocabSize, config.hiddenSize),
        ]
        return matrices.flatMap { name, rows, columns in
            // The head multiplies sampled rows only.
            tokenCounts.filter { name != "head" || $0 <= 256 }.map { tokens in
                KernelCase(
                    name: "linear \(dtype.rawValue) \(name)", shape: "tokens=\(tokens) rows=\(rows) columns=\(columns)"
                ) { operands in
                    let backend = operands.backend
                    let inputType = backend.linearInputType
                    let weights = try operands.weights(dtype, rows: rows, columns: columns)
                    let x = try operands.input(rows: tokens, columns: columns, inputType)
                    let output = try operands.output(rows: tokens, columns: rows, .f32)
                    return PreparedKernel(
                        calls: weights.map { weight in
                            { backend.linear(x, weight, into: output, mode: .overwrite) }
                        },
                        bytes: rows * (dtype.rowByteCount(elementCount: columns) ?? 0)
                            + tokens * (columns * inputType.blockByteCount + rows * 4),
                        operations: 2 * tokens * rows * columns)
                }
            }
        }
    }

    private func embedCases(_ config: ModelConfig) -> [KernelCase] {
        rowCounts.map { tokens in
            KernelCase(name: "embed bf16", shape: "tokens=\(tokens) columns=\(config.hiddenSize)") { operands in
                let backend = operands.backend
                let tables = try operands.weights(.bf16, rows: config.vocabSize, columns: config.hiddenSize)
                let ids = try operands.integers((0..<tokens).map { Int32($0 * 7919 % config.vocabSize) })
                let output = try operands.output(rows: tokens, columns: config.hiddenSize, .f32)
                return PreparedKernel(
                    calls: tables.map { table in { backend.embed(ids, table, into: output) } },
                    bytes: tokens * (4 + config.hiddenSize * (2 + 4)))
            }
        }
    }

    // MARK: Attention

    private func attentionCases(_ config: ModelConfig) -> [KernelCase] {
        var tokenCounts: Set<Int> = []
        return contexts.flatMap { sequences, query, context in
            let shape = ContextShape(
                sequences: sequences, query: query, context: context, heads: config.headCount,
                kvHeads: config.kvHeadCount, headDim: config.headDim)
            // How long the context is concerns attention only.
            let isNew = tokenCounts.insert(sequences * query).inserted
            return [attend(shape)] + (isNew ? [rotate(shape), storeKV(shape)] : [])
        }
    }

    private func attend(_ shape: ContextShape) -> KernelCase {
        KernelCase(
            name: shape.query == 1 ? "attend decode" : "attend prefill",
            shape: "sequences=\(shape.sequences) query=\(shape.query) context=\(shape.context) heads=\(shape.heads) "
                + "kv_heads=\(shape.kvHeads) head_dim=\(shape.headDim)"
        ) { operands in
            let backend = operands.backend
            let contexts = try operands.contexts(shape)
            let tokens = contexts.batch.tokenCount
            let columns = shape.heads * shape.headDim
            let q = try operands.input(rows: tokens, columns: shape.width, .f32)
            let output = try operands.output(rows: tokens, columns: columns, backend.linearInputType)
            let scale = 1 / Float(shape.headDim).squareRoot()
            return PreparedKernel(
                calls: contexts.caches.map { cache in
                    {
                        backend.attend(
                            q, heads: shape.heads, kvHeads: shape.kvHeads, headDim: shape.headDim, scale: scale,
                            cache: cache, batch: contexts.batch, into: output)
                    }
                },
                bytes: shape.cacheBytes(backend)
                    + tokens * columns * (4 + backend.linearInputType.blockByteCount),
                operations: 4 * shape.sequences * columns * shape.pairs)
        }
    }

    private func rotate(_ shape: ContextShape) -> KernelCase {
        let heads = shape.heads + shape.kvHeads
        let tokens = shape.sequences * shape.query
        return KernelCase(name: "rotate", shape: "tokens=\(tokens) heads=\(heads) head_dim=\(shape.headDim)") {
            let backend = $0.backend
            let positions = try $0.contexts(shape).batch.positions
            let x = try $0.input(rows: tokens, columns: shape.width, .f32)
            let frequencies = try $0.backend.allocate([shape.headDim / 2], .f32, purpose: "frequencies")
            backend.upload((0..<shape.headDim / 2).map { 1 / Float($0 + 1) }, to: frequencies)
            return PreparedKernel(
                calls: [
                    {
                        backend.rotate(
                            x, heads: heads, headDim: shape.headDim, positions: positions, frequencies: frequencies,
                            layout: .interleaved)
                    }
                ],
                bytes: tokens * (4 + 2 * heads * shape.headDim * 4))
        }
    }

    private func storeKV(_ shape: ContextShape) -> KernelCase {
        let tokens = shape.sequences * shape.query
        return KernelCase(
            name: "store_kv", shape: "tokens=\(tokens) kv_heads=\(shape.kvHeads) head_dim=\(shape.headDim)"
        ) { operands in
            let backend = operands.backend
            let contexts = try operands.contexts(shape)
            let x = try operands.input(rows: tokens, columns: shape.width, .f32)
            return PreparedKernel(
                calls: contexts.caches.map { cache in
                    {
                        backend.storeKV(
                            x, keyOffset: shape.heads * shape.headDim,
                            valueOffset: (shape.heads + shape.kvHeads) * shape.headDim, kvHeads: shape.kvHeads,
                            headDim: shape.headDim, slots: contexts.batch.slotMapping, cache: cache)
                    }
                },
                bytes: tokens
                    * (4 + 2 * shape.kvHeads * shape.headDim * 4
                        + backend.kvBytesPerToken(kvHeads: shape.kvHeads, headDim: shape.headDim)))
        }
    }

    // MARK: Rows

    /// What these read was written by the operation before, so it is in the cache in a model too.
    private func rowCases(_ config: ModelConfig) -> [KernelCase] {
        rowCounts.flatMap { rows in
            [
                KernelCase(name: "rms_norm", shape: "tokens=\(rows) columns=\(config.hiddenSize)") { operands in
                    let (backend, columns) = (operands.backend, config.hiddenSize)
                    let x = try operands.input(rows: rows, columns: columns, .f32)
                    let weight = try backend.allocate([columns], .f32, purpose: "norm weights")
                    backend.upload(Array(repeating: 1, count: columns), to: weight)
                    let output = try operands.output(rows: rows, columns: columns, backend.linearInputType)
                    return PreparedKernel(
                        calls: [{ backend.rmsNorm(x, weight: weight, epsilon: 1e-5, into: output) }],
                        bytes: columns * 4 + rows * columns * (4 + backend.linearInputType.blockByteCount))
                },
                KernelCase(name: "gate", shape: "tokens=\(rows) columns=\(config.ffnSize)") { operands in
                    let (backend, columns) = (operands.backend, config.ffnSize)
                    let x = try operands.input(rows: rows, columns: 2 * columns, .f32)
                    let output = try operands.output(rows: rows, columns: columns, backend.linearInputType)
                    return PreparedKernel(
                        calls: [{ backend.gate(x, into: output) }],
                        bytes: rows * columns * (8 + backend.linearInputType.blockByteCount))
                },
            ]
        }
    }

    // MARK: Sampling

    private func sampleCases(_ vocabulary: Int) -> [KernelCase] {
        let ways = [("greedy", SamplingRow()), ("top-p", SamplingRow(temperature: 0.8, topP: 0.95, seed: 1))]
        return sampledRowCounts.flatMap { rows in
            ways.map { name, row in
                KernelCase(name: "sample \(name)", shape: "rows=\(rows) columns=\(vocabulary)") { operands in
                    let loop = SampleLoop(
                        operands.backend, logits: try operands.input(rows: rows, columns: vocabulary, .f32),
                        rows: (0..<rows).map { index in
                            var row = row
                            row.position = UInt64(index)
                            return row
                        })
                    return PreparedKernel(
                        calls: [loop.sample], bytes: rows * vocabulary * 4, canBeCaptured: false, finish: loop.finish)
                }
            }
        }
    }
}

/// Samples again and again, as an engine does: the next step is begun before the latest is read back.
private final class SampleLoop {
    private let backend: any Backend
    private let logits: Tensor
    private let rows: [SamplingRow]
    private var results: SamplingResults
    private var pending = 0
    private var failure: (any Error)?

    init(_ backend: any Backend, logits: Tensor, rows: [SamplingRow]) {
        self.backend = backend
        self.logits = logits
        self.rows = rows
        results = SamplingResults(rowCapacity: rows.count)
    }

    func sample() {
        guard failure == nil else { return }
        backend.sample(logits, rows)
        pending += 1
        if pending == (backend.isAsynchronous ? 2 : 1) { collect() }
    }

    func finish() throws {
        while pending > 0 { collect() }
        if let failure { throw failure }
    }

    private func collect() {
        pending -= 1
        do { try backend.collect(into: &results) } catch { failure = error }
    }
}
