// The operations: each checks its shapes, fills the kernel's argument and launches it.

import CUDAKernels
import Tensors

/// Memory of the attention kernels beside the cache; sized by the largest step at the first one.
struct AttentionScratch {
    let plan: DeviceBuffer
    let partial: DeviceBuffer
    let partialSpans: Int32
}

extension CUDABackend {
    package func embed(_ tokens: Tensor, _ table: PreparedWeight, into output: Tensor) {
        let matrix = cudaWeight(table).segments[0].matrix
        precondition(output.rowElementCount == table.columnCount && output.rowCount >= tokens.elementCount)
        let arguments = cuda_embed_arguments(
            table: matrix, tokens: integers(tokens), samples: sampler.samplesAddress, output: floats(output),
            token_count: Int32(tokens.elementCount), unused: 0)
        unsafe launch(cuda_embed_launch, arguments, "embed")
    }

    package func gatherRows(_ x: Tensor, rows: Tensor, into output: Tensor) {
        precondition(x.rowElementCount == output.rowElementCount && output.rowCount >= rows.elementCount)
        let arguments = cuda_gather_rows_arguments(
            x: floats(x), rows: integers(rows), output: floats(output), row_count: Int32(rows.elementCount),
            columns: Int32(x.rowElementCount))
        unsafe launch(cuda_gather_rows_launch, arguments, "gatherRows")
    }

    package func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor) {
        precondition(x.rowElementCount == weight.elementCount && output.elementCount >= x.elementCount)
        let arguments = cuda_rms_norm_arguments(
            x: floats(x), weight: floats(weight), output: halves(output), row_count: Int32(x.rowCount),
            columns: Int32(x.rowElementCount), epsilon: epsilon, unused: 0)
        unsafe launch(cuda_rms_norm_launch, arguments, "rmsNorm")
    }

    package func gate(_ x: Tensor, into output: Tensor) {
        precondition(x.rowElementCount == 2 * output.rowElementCount && output.rowCount >= x.rowCount)
        let arguments = cuda_gate_arguments(
            x: floats(x), output: halves(output), token_count: Int32(x.rowCount), ffn: Int32(output.rowElementCount))
        unsafe launch(cuda_gate_launch, arguments, "gate")
    }

    package func linear(_ x: Tensor, _ weight: PreparedWeight, into output: Tensor, mode: LinearMode) {
        precondition(
            x.rowElementCount == weight.columnCount && output.rowElementCount == weight.rowCount
                && output.rowCount >= x.rowCount)
        for segment in cudaWeight(weight).segments {
            let arguments = cuda_linear_arguments(
                matrix: segment.matrix, x: halves(x), output: floats(output) + cuda_address(4 * segment.firstRow),
                token_count: Int32(x.rowCount), x_stride: Int32(x.rowElementCount),
                output_stride: Int32(output.rowElementCount), accumulate: mode == .accumulate ? 1 : 0,
                shared_limit: Int32(clamping: device.properties.maxSharedBytesPerBlock), unused: 0)
            unsafe launch(cuda_linear_launch, arguments, "linear")
        }
    }

    package func rotate(
        _ x: Tensor, heads: Int, headDim: Int, positions: Tensor, frequencies: Tensor, magnitude: Float,
        layout: RotaryLayout
    ) {
        precondition(heads * headDim <= x.rowElementCount && positions.elementCount >= x.rowCount)
        precondition(frequencies.elementCount * 2 <= headDim)
        let arguments = cuda_rotate_arguments(
            x: floats(x), positions: integers(positions), frequencies: floats(frequencies),
            token_count: Int32(x.rowCount), x_stride: Int32(x.rowElementCount), heads: Int32(heads),
            head_dim: Int32(headDim), frequency_count: Int32(frequencies.elementCount),
            interleaved: layout == .interleaved ? 1 : 0)
        unsafe launch(cuda_rotate_launch, arguments, "rotate")
    }

    package func storeKV(
        _ qkv: Tensor, keyOffset: Int, valueOffset: Int, kvHeads: Int, headDim: Int, slots: Tensor, cache: KVLayer
    ) {
        precondition(slots.elementCount >= qkv.rowCount)
        let arguments = cuda_store_kv_arguments(
            cache: layer(cache, kvHeads: kvHeads, headDim: headDim), qkv: floats(qkv), slots: integers(slots),
            token_count: Int32(qkv.rowCount), qkv_stride: Int32(qkv.rowElementCount), key_offset: Int32(keyOffset),
            value_offset: Int32(valueOffset))
        unsafe launch(cuda_store_kv_launch, arguments, "storeKV")
    }

    package func attend(
        _ q: Tensor, heads: Int, kvHeads: Int, headDim: Int, scale: Float, cache: KVLayer, batch: AttentionBatch,
        into output: Tensor
    ) {
        precondition(heads % kvHeads == 0 && heads * headDim <= q.rowElementCount)
        precondition(output.rowElementCount == heads * headDim && output.rowCount >= batch.tokenCount)
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
            scale: scale, multiprocessors: Int32(device.properties.multiprocessorCount), unused: 0)
        unsafe launch(cuda_attend_decode_launch, arguments, "attention over one row each")
        if batch.maxQueryLength > 1 {
            unsafe launch(cuda_attend_prefill_launch, arguments, "attention over many rows")
        }
        unsafe launch(cuda_attend_combine_launch, arguments, "attention's combination")
    }

    /// The attention kernels' memory for the largest step that these capacities allow.
    private func attentionScratch(
        maxSequences: Int, maxTokens: Int, maxContext: Int, heads: Int, headDim: Int
    ) -> AttentionScratch? {
        let partialBytes = Int(
            clamping: cuda_attention_partial_bytes(
                Int64(maxSequences), Int64(maxContext), Int32(heads), Int32(headDim)))
        let planBytes = Int(clamping: cuda_attention_plan_bytes(Int64(maxSequences), Int64(maxTokens)))
        let spans = cuda_attention_partial_spans(Int64(maxSequences), Int64(maxContext))
        if let scratch = attentionScratch, scratch.plan.byteCount >= planBytes,
            scratch.partial.byteCount >= partialBytes, scratch.partialSpans >= spans
        {
            return scratch
        }
        attempt { () throws(BackendError) in
            attentionScratch = AttentionScratch(
                plan: try device.allocate(byteCount: planBytes, purpose: "attention's work list"),
                partial: try device.allocate(byteCount: partialBytes, purpose: "attention's partial results"),
                partialSpans: spans)
            dropGraphs()
        }
        return failure == nil ? attentionScratch : nil
    }

    // MARK: Addresses

    private func layer(_ cache: KVLayer, kvHeads: Int, headDim: Int) -> cuda_kv_layer {
        cuda_kv_layer(
            keys: halves(cache.keys), values: halves(cache.values), block_size: Int32(cache.blockSize),
            kv_heads: Int32(kvHeads), head_dim: Int32(headDim), unused: 0)
    }

    private func cudaWeight(_ weight: PreparedWeight) -> CUDAWeight {
        guard let storage = weight.storage as? CUDAWeight else { preconditionFailure("a weight of another backend") }
        return storage
    }

    private func floats(_ tensor: Tensor) -> cuda_address { address(tensor, .f32) }
    private func halves(_ tensor: Tensor) -> cuda_address { address(tensor, .bf16) }
    private func integers(_ tensor: Tensor) -> cuda_address { address(tensor, .i32) }

    private func address(_ tensor: Tensor, _ dtype: DType) -> cuda_address {
        precondition(tensor.dtype == dtype, "a tensor of \(tensor.dtype) where \(dtype) belongs")
        return cuda_address(tensor.address)
    }
}
