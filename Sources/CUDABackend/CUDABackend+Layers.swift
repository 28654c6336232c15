// The operations that differ between architectures: attention, norms, gates, biases.

import CUDAKernels
import Tensors

extension CUDABackend {
    package func require(_ feature: BackendFeature) {}

    // MARK: Norms and elements

    package func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor, mode: LinearMode) {
        precondition(x.rowElementCount == weight.elementCount && output.elementCount >= x.elementCount)
        guard mode == .overwrite else {
            return normalizeParts(
                x, first: 0, parts: 1, width: x.rowElementCount, weight: weight, epsilon: epsilon, addedTo: output)
        }
        if normalizeHeld(x, weight: weight, epsilon: epsilon, into: output) { return }
        if normalizeSum(x, weight: weight, epsilon: epsilon, into: output) { return }
        let codes = self.codes(ofNorm: output.prefix(rows: x.rowCount))
        let arguments = cuda_rms_norm_arguments(
            x: floats(x), weight: floats(weight), output: halves(output), codes: codes.address,
            code_scales: codes.scales, row_count: Int32(x.rowCount), columns: Int32(x.rowElementCount),
            epsilon: epsilon, unused: 0)
        unsafe launch(cuda_rms_norm_launch, arguments, "rmsNorm")
    }

    package func normalizeHeads(
        _ x: Tensor, firstHead: Int, heads: Int, headDim: Int, weight: Tensor, epsilon: Float
    ) {
        precondition((firstHead + heads) * headDim <= x.rowElementCount && weight.elementCount == headDim)
        normalizeParts(
            x, first: firstHead * headDim, parts: heads, width: headDim, weight: weight, epsilon: epsilon, addedTo: nil)
    }

    private func normalizeParts(
        _ x: Tensor, first: Int, parts: Int, width: Int, weight: Tensor, epsilon: Float, addedTo output: Tensor?
    ) {
        let arguments = cuda_norm_parts_arguments(
            x: floats(x), weight: floats(weight), output: output.map { floats($0) } ?? 0,
            row_count: Int32(x.rowCount), x_stride: Int32(x.rowElementCount), first: Int32(first), parts: Int32(parts),
            width: Int32(width), epsilon: epsilon)
        unsafe launch(cuda_norm_parts_launch, arguments, "rmsNorm of parts")
    }

    package func addBias(_ bias: Tensor, to x: Tensor) {
        precondition(bias.elementCount == x.rowElementCount)
        if addHeld(bias, to: x) { return }
        change(x, CUDA_ELEMENT_ADD_BIAS, number: 0, bias: floats(bias), "addBias")
    }

    package func apply(_ function: ElementFunction, to x: Tensor) {
        switch function {
        case .multiply(let factor): change(x, CUDA_ELEMENT_MULTIPLY, number: factor, bias: 0, "multiply")
        case .softCap(let cap): change(x, CUDA_ELEMENT_SOFT_CAP, number: cap, bias: 0, "softCap")
        }
    }

    private func change(_ x: Tensor, _ kind: Int, number: Float, bias: cuda_address, _ operation: String) {
        let arguments = cuda_change_elements_arguments(
            x: floats(x), bias: bias, row_count: Int32(x.rowCount), columns: Int32(x.rowElementCount), number: number,
            kind: Int32(kind))
        unsafe launch(cuda_change_elements_launch, arguments, operation)
    }

    package func addLowRank(_ x: Tensor, _ deltas: LowRankDeltas, choices: Tensor, into output: Tensor) {
        let (columns, width) = (deltas.down.rowElementCount, deltas.up.rowElementCount)
        precondition(
            x.rowElementCount == columns && output.rowCount >= x.rowCount && choices.elementCount >= x.rowCount)
        precondition(deltas.firstColumn + width <= output.rowElementCount && deltas.maxRank <= 256)
        precondition(deltas.maxRank * deltas.slotCount == deltas.down.rowCount)
        let arguments = cuda_add_low_rank_arguments(
            x: halves(x), down: floats(deltas.down), up: floats(deltas.up), ranks: integers(deltas.ranks),
            choices: integers(choices), output: floats(output) + cuda_address(4 * deltas.firstColumn),
            token_count: Int32(x.rowCount), columns: Int32(columns), width: Int32(width),
            output_stride: Int32(output.rowElementCount), max_rank: Int32(deltas.maxRank), unused: 0)
        unsafe launch(cuda_add_low_rank_launch, arguments, "addLowRank")
    }

    package func gate(_ x: Tensor, _ activation: GateActivation, into output: Tensor) {
        precondition(x.rowElementCount == 2 * output.rowElementCount && output.rowCount >= x.rowCount)
        forgetCodes(of: output)
        let (kind, limit) = activation.kernel
        let arguments = cuda_gate_arguments(
            x: floats(x), output: halves(output), token_count: Int32(x.rowCount), ffn: Int32(output.rowElementCount),
            kind: kind, limit: limit)
        unsafe launch(cuda_gate_launch, arguments, "gate")
    }

    // MARK: Attention

    package func attend(
        _ q: Tensor, heads: Int, kvHeads: Int, headDim: Int, options: AttentionOptions, cache: KVLayer,
        batch: AttentionBatch, into output: Tensor
    ) {
        precondition(heads % kvHeads == 0 && heads * headDim <= q.rowElementCount)
        precondition(output.rowElementCount == heads * headDim && output.rowCount >= batch.tokenCount)
        precondition(options.sinks.map { $0.elementCount == heads } ?? true)
        forgetCodes(of: output)
        guard
            let scratch = attentionScratch(
                maxSequences: batch.blockTables.rowCount, maxTokens: batch.positions.elementCount,
                maxContext: batch.blockTables.rowElementCount * cache.blockSize, heads: heads, headDim: headDim)
        else { return }
        let queries = cuda_attention_batch(
            query_starts: integers(batch.queryStarts), context_lengths: integers(batch.contextLengths),
            block_tables: integers(batch.blockTables), positions: integers(batch.positions),
            plan: cuda_address(scratch.plan.address), sequence_count: Int32(batch.sequenceCount),
            blocks_per_sequence: Int32(batch.blockTables.rowElementCount), token_count: Int32(batch.tokenCount),
            kv_heads: Int32(kvHeads), heads: Int32(heads), head_dim: Int32(headDim),
            partial_spans: scratch.partialSpans, cuts_prefill: 1)
        if takesPlanning() {
            let arguments = cuda_attention_plan_arguments(batch: queries)
            unsafe launch(cuda_attention_plan_launch, arguments, "planning attention")
        }
        let arguments = cuda_attend_arguments(
            batch: queries, cache: layer(cache, kvHeads: kvHeads, headDim: headDim), q: floats(q),
            output: halves(output), partial: cuda_address(scratch.partial.address), q_stride: Int32(q.rowElementCount),
            scale: options.scale, multiprocessors: Int32(device.properties.multiprocessorCount),
            window: Int32(clamping: options.slidingWindow ?? 0), soft_cap: options.logitSoftCap ?? 0,
            unused: 0,
            sinks: options.sinks.map { floats($0) } ?? 0)
        unsafe launch(cuda_attend_decode_launch, arguments, "attention over one row each")
        if batch.maxQueryLength > 1 {
            unsafe launch(cuda_attend_prefill_launch, arguments, "attention over many rows")
        }
        unsafe launch(cuda_attend_combine_launch, arguments, "attention's combination")
    }
}

extension GateActivation {
    /// The kernels' number of it, and its limit.
    var kernel: (kind: Int32, limit: Float) {
        switch self {
        case .silu: (Int32(CUDA_GATE_SILU), 0)
        case .geluTanh: (Int32(CUDA_GATE_GELU_TANH), 0)
        case .clamped(let limit): (Int32(CUDA_GATE_CLAMPED), limit)
        }
    }
}
