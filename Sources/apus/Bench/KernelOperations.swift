// The operations that are measured one by one: what each calls, and what it has to read, write and multiply.
//
// Through the `Backend` protocol alone, so that every device is measured alike.

import Checkpoints
import Tensors

/// A matrix of a model.
package struct KernelMatrix: Sendable {
    let name: String
    let rows: Int
    let columns: Int

    /// Those of a layer, and the head.
    static func all(_ config: ModelConfig) -> [KernelMatrix] {
        let queries = config.headCount * config.headDim
        let keys = config.kvHeadCount * config.headDim
        return [
            KernelMatrix(name: "gate-up", rows: 2 * config.ffnSize, columns: config.hiddenSize),
            KernelMatrix(name: "down", rows: config.hiddenSize, columns: config.ffnSize),
            KernelMatrix(name: "qkv", rows: queries + 2 * keys, columns: config.hiddenSize),
            KernelMatrix(name: "o", rows: config.hiddenSize, columns: queries),
            KernelMatrix(name: "head", rows: config.vocabSize, columns: config.hiddenSize),
        ]
    }
}

extension ContextShape {
    init(_ config: ModelConfig, sequences: Int, query: Int, context: Int, type: KVCacheType = .auto) {
        self.init(
            sequences: sequences, query: query, context: context, heads: config.headCount,
            kvHeads: config.kvHeadCount, headDim: config.headDim, type: type)
    }
}

extension KernelCase {
    static func linear(_ matrix: KernelMatrix, _ dtype: DType, tokens: Int) -> KernelCase {
        let (rows, columns) = (matrix.rows, matrix.columns)
        return KernelCase(
            name: "linear \(dtype.rawValue) \(matrix.name)", shape: "tokens=\(tokens) rows=\(rows) columns=\(columns)"
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

    static func embed(_ config: ModelConfig, _ dtype: DType, tokens: Int) -> KernelCase {
        let columns = config.hiddenSize
        return KernelCase(name: "embed \(dtype.rawValue)", shape: "tokens=\(tokens) columns=\(columns)") { operands in
            let backend = operands.backend
            let tables = try operands.weights(dtype, rows: config.vocabSize, columns: columns)
            let ids = try operands.integers((0..<tokens).map { Int32($0 * 7919 % config.vocabSize) })
            let output = try operands.output(rows: tokens, columns: columns, .f32)
            return PreparedKernel(
                calls: tables.map { table in { backend.embed(ids, table, into: output) } },
                bytes: tokens * (4 + (dtype.rowByteCount(elementCount: columns) ?? 0) + columns * 4))
        }
    }

    static func attend(_ shape: ContextShape) -> KernelCase {
        KernelCase(
            name: (shape.query == 1 ? "attend decode" : "attend prefill")
                + (shape.type == .auto ? "" : " \(shape.type.rawValue)"),
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
                bytes: try shape.cacheBytes(backend)
                    + tokens * columns * (4 + backend.linearInputType.blockByteCount),
                operations: 4 * shape.sequences * columns * shape.pairs)
        }
    }

    static func rotate(_ shape: ContextShape) -> KernelCase {
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

    static func storeKV(_ shape: ContextShape) -> KernelCase {
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
                bytes: try tokens
                    * (4 + 2 * shape.kvHeads * shape.headDim * 4
                        + backend.kvBytesPerToken(kvHeads: shape.kvHeads, headDim: shape.headDim, type: .auto)))
        }
    }

    static func rmsNorm(_ config: ModelConfig, tokens: Int) -> KernelCase {
        let columns = config.hiddenSize
        return KernelCase(name: "rms_norm", shape: "tokens=\(tokens) columns=\(columns)") { operands in
            let backend = operands.backend
            let x = try operands.input(rows: tokens, columns: columns, .f32)
            let weight = try backend.allocate([columns], .f32, purpose: "norm weights")
            backend.upload(Array(repeating: 1, count: columns), to: weight)
            let output = try operands.output(rows: tokens, columns: columns, backend.linearInputType)
            return PreparedKernel(
                calls: [{ backend.rmsNorm(x, weight: weight, epsilon: 1e-5, into: output) }],
                bytes: columns * 4 + tokens * columns * (4 + backend.linearInputType.blockByteCount))
        }
    }

    static func gate(_ config: ModelConfig, tokens: Int) -> KernelCase {
        let columns = config.ffnSize
        return KernelCase(name: "gate", shape: "tokens=\(tokens) columns=\(columns)") { operands in
            let backend = operands.backend
            let x = try operands.input(rows: tokens, columns: 2 * columns, .f32)
            let output = try operands.output(rows: tokens, columns: columns, backend.linearInputType)
            return PreparedKernel(
                calls: [{ backend.gate(x, into: output) }],
                bytes: tokens * columns * (8 + backend.linearInputType.blockByteCount))
        }
    }

    static func sample(_ name: String, _ row: SamplingRow, rows: Int, vocabulary: Int) -> KernelCase {
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
