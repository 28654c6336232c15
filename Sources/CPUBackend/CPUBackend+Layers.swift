// The operations that differ between architectures: attention, norms, gates, biases and experts.

import CPUKernels
import Tensors

extension CPUBackend {
    package func require(_ feature: BackendFeature) {}

    // MARK: Norms and elements

    package func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor, mode: LinearMode) {
        precondition(x.rowElementCount == weight.elementCount && output.elementCount >= x.elementCount)
        let (rows, columns) = (Int64(x.rowCount), Int64(x.rowElementCount))
        switch mode {
        case .overwrite:
            unsafe cpu_rms_norm(context, floats(x), rows, columns, floats(weight), epsilon, floats(output))
        case .accumulate:
            unsafe cpu_add_rms_norm(context, floats(x), rows, columns, floats(weight), epsilon, floats(output))
        }
    }

    package func normalizeHeads(
        _ x: Tensor, firstHead: Int, heads: Int, headDim: Int, weight: Tensor, epsilon: Float
    ) {
        precondition((firstHead + heads) * headDim <= x.rowElementCount && weight.elementCount == headDim)
        unsafe cpu_norm_heads(
            context, floats(x), Int64(x.rowCount), Int64(x.rowElementCount), Int64(firstHead * headDim), Int64(heads),
            Int64(headDim), floats(weight), epsilon)
    }

    package func addBias(_ bias: Tensor, to x: Tensor) {
        precondition(bias.elementCount == x.rowElementCount)
        unsafe cpu_add_bias(
            context, floats(x), Int64(x.rowCount), Int64(x.rowElementCount), floats(bias), Int64(x.rowElementCount))
    }

    package func apply(_ function: ElementFunction, to x: Tensor) {
        let (rows, columns) = (Int64(x.rowCount), Int64(x.rowElementCount))
        switch function {
        case .multiply(let factor): unsafe cpu_multiply_rows(context, floats(x), rows, columns, factor)
        case .softCap(let cap): unsafe cpu_soft_cap(context, floats(x), rows, columns, cap)
        }
    }

    package func gate(_ x: Tensor, _ activation: GateActivation, into output: Tensor) {
        precondition(x.rowElementCount == 2 * output.rowElementCount && output.rowCount >= x.rowCount)
        let (kind, limit) = activation.kernel
        unsafe cpu_gate_by(
            context, kind, limit, floats(x), Int64(x.rowCount), Int64(output.rowElementCount), floats(output))
    }

    // MARK: Attention

    package func storeKV(
        _ qkv: Tensor, keyOffset: Int, valueOffset: Int, kvHeads: Int, headDim: Int, slots: Tensor, cache: KVLayer
    ) {
        precondition(slots.elementCount >= qkv.rowCount)
        var layer = unsafe kvLayer(cache, kvHeads: kvHeads, headDim: headDim)
        unsafe cpu_store_kv(
            context, floats(qkv), Int64(qkv.rowCount), Int64(qkv.rowElementCount), Int64(keyOffset),
            Int64(valueOffset), integers(slots), &layer)
    }

    package func attend(
        _ q: Tensor, heads: Int, kvHeads: Int, headDim: Int, options: AttentionOptions, cache: KVLayer,
        batch: AttentionBatch, into output: Tensor
    ) {
        precondition(heads % kvHeads == 0 && heads * headDim <= q.rowElementCount)
        precondition(output.rowElementCount == heads * headDim && output.rowCount >= batch.tokenCount)
        precondition(options.sinks.map { $0.elementCount == heads } ?? true)
        var layer = unsafe kvLayer(cache, kvHeads: kvHeads, headDim: headDim)
        var queries = unsafe cpu_attention_batch(
            q: floats(q), q_stride: Int64(q.rowElementCount), output: floats(output), heads: Int64(heads),
            scale: options.scale, sequences: Int64(batch.sequenceCount), query_starts: integers(batch.queryStarts),
            block_tables: integers(batch.blockTables),
            blocks_per_sequence: Int64(batch.blockTables.rowElementCount), positions: integers(batch.positions),
            window: Int64(options.slidingWindow ?? 0), soft_cap: options.logitSoftCap ?? 0,
            sinks: options.sinks.map { unsafe UnsafePointer(floats($0)) })
        note(unsafe cpu_attend(context, &queries, &layer), "attention")
    }

    private func kvLayer(_ cache: KVLayer, kvHeads: Int, headDim: Int) -> cpu_kv_layer {
        unsafe cpu_kv_layer(
            keys: address(cache.keys), values: address(cache.values), block_size: Int64(cache.blockSize),
            kv_heads: Int64(kvHeads), head_dim: Int64(headDim), is_bf16: cache.keys.dtype == .bf16)
    }

    // MARK: Adapters

    package func addLowRank(_ x: Tensor, _ deltas: LowRankDeltas, choices: Tensor, into output: Tensor) {
        let (columns, width) = (deltas.down.rowElementCount, deltas.up.rowElementCount)
        precondition(
            x.rowElementCount == columns && output.rowCount >= x.rowCount && choices.elementCount >= x.rowCount)
        precondition(deltas.firstColumn + width <= output.rowElementCount)
        precondition(deltas.maxRank <= Int(CPU_MAX_RANK) && deltas.maxRank * deltas.slotCount == deltas.down.rowCount)
        var kernel = unsafe cpu_low_rank(
            down: floats(deltas.down), up: floats(deltas.up), ranks: integers(deltas.ranks),
            max_rank: Int64(deltas.maxRank), columns: Int64(columns), width: Int64(width),
            first: Int64(deltas.firstColumn))
        unsafe cpu_add_low_rank(
            context, &kernel, floats(x), Int64(x.rowCount), Int64(x.rowElementCount), integers(choices),
            floats(output), Int64(output.rowElementCount))
    }

    // MARK: Experts

    package func mixExperts(
        _ x: Tensor, logits: Tensor, _ experts: ExpertWeights, routing: ExpertRouting, activation: GateActivation,
        into output: Tensor
    ) {
        let count = experts.gateUp.count
        guard let first = experts.down.first else { preconditionFailure("there are no experts") }
        let (hidden, ffn) = (first.rowCount, first.columnCount)
        precondition(x.rowElementCount == hidden && output.rowElementCount == hidden && output.rowCount >= x.rowCount)
        precondition(logits.rowElementCount == count && (1...count).contains(routing.usedCount))
        let gateUp = unsafe experts.gateUp.map { unsafe cpuWeight($0).descriptor }
        let down = unsafe experts.down.map { unsafe cpuWeight($0).descriptor }
        let (kind, limit) = activation.kernel
        let isDone = unsafe gateUp.withUnsafeBufferPointer { gateUp in
            unsafe down.withUnsafeBufferPointer { down in
                var layer = unsafe cpu_experts(
                    count: Int64(count), used: Int64(routing.usedCount), is_normalized: routing.isNormalized,
                    gate: kind, limit: limit, hidden: Int64(hidden), ffn: Int64(ffn), gate_up: gateUp.baseAddress,
                    down: down.baseAddress,
                    gate_up_bias: experts.gateUpBias.map { unsafe UnsafePointer(floats($0)) },
                    down_bias: experts.downBias.map { unsafe UnsafePointer(floats($0)) })
                return unsafe cpu_mix_experts(
                    context, &layer, floats(x), floats(logits), Int64(x.rowCount), floats(output))
            }
        }
        note(isDone, "experts")
    }
}

extension GateActivation {
    /// The kernels' number of it, and its limit.
    fileprivate var kernel: (kind: Int32, limit: Float) {
        switch self {
        case .silu: (Int32(CPU_GATE_SILU), 0)
        case .geluTanh: (Int32(CPU_GATE_GELU_TANH), 0)
        case .clamped(let limit): (Int32(CPU_GATE_CLAMPED), limit)
        }
    }
}
