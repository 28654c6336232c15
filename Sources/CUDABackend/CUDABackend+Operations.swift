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
            table: matrix, tokens: integers(tokens), samples: knownSamplesAddress, output: floats(output),
            token_count: Int32(tokens.elementCount), first_row: Int32(table.firstRow ?? 0))
        unsafe launch(cuda_embed_launch, arguments, "embed")
    }

    package func gatherRows(_ x: Tensor, rows: Tensor, into output: Tensor) {
        precondition(x.rowElementCount == output.rowElementCount && output.rowCount >= rows.elementCount)
        let arguments = cuda_gather_rows_arguments(
            x: floats(x), rows: integers(rows), output: floats(output), row_count: Int32(rows.elementCount),
            columns: Int32(x.rowElementCount))
        unsafe launch(cuda_gather_rows_launch, arguments, "gatherRows")
    }

    package func linear(_ x: Tensor, _ weight: PreparedWeight, into output: Tensor, mode: LinearMode) {
        precondition(
            x.rowElementCount == weight.columnCount && output.rowElementCount == weight.rowCount
                && output.rowCount >= x.rowCount)
        if hold(x, cudaWeight(weight), into: output, mode: mode) { return }
        multiply(x, weight, into: output, mode: mode)
    }

    /// - Parameter ranks: where ranks go in place of the output, or 0.
    func multiply(
        _ x: Tensor, _ weight: PreparedWeight, into output: Tensor, mode: LinearMode, ranks: cuda_address = 0
    ) {
        for segment in cudaWeight(weight).segments {
            multiply(
                x, segment.matrix, into: floats(output) + cuda_address(4 * segment.firstRow),
                stride: output.rowElementCount, mode: mode, ranks: ranks)
        }
    }

    /// output (+)= matrix · x, or what its ending says, or its ranks.
    func multiply(
        _ x: Tensor, _ matrix: cuda_matrix, into output: cuda_address, stride: Int, mode: LinearMode,
        ending: cuda_ending = cuda_ending(), ranks: cuda_address = 0
    ) {
        if matrix.layout == Int32(CUDA_LAYOUT_SWIZZLED) {
            return multiplySwizzled(x, matrix, into: output, stride: stride, mode: mode, ending: ending, ranks: ranks)
        }
        let product = cuda_linear_arguments(
            matrix: matrix, x: halves(x), output: output, ranks: ranks, token_count: Int32(x.rowCount),
            x_stride: Int32(x.rowElementCount), output_stride: Int32(stride), accumulate: mode == .accumulate ? 1 : 0,
            shared_limit: Int32(clamping: device.properties.maxSharedBytesPerBlock), unused: 0)
        let arguments = cuda_ended_linear_arguments(product: product, ending: ending)
        unsafe launch(cuda_ended_linear_launch, arguments, "linear")
    }

    package func rotate(
        _ x: Tensor, heads: Int, headDim: Int, positions: Tensor, frequencies: Tensor, magnitude: Float,
        layout: RotaryLayout
    ) {
        precondition(heads * headDim <= x.rowElementCount && positions.elementCount >= x.rowCount)
        precondition(frequencies.elementCount * 2 <= headDim)
        let isHeld = rotateHeld(
            x, heads: heads, headDim: headDim, positions: positions, frequencies: frequencies, magnitude: magnitude,
            layout: layout)
        if isHeld { return }
        let arguments = cuda_rotate_arguments(
            x: floats(x), positions: integers(positions), frequencies: floats(frequencies),
            token_count: Int32(x.rowCount), x_stride: Int32(x.rowElementCount), heads: Int32(heads),
            head_dim: Int32(headDim), frequency_count: Int32(frequencies.elementCount),
            interleaved: layout == .interleaved ? 1 : 0, magnitude: magnitude, unused: 0)
        unsafe launch(cuda_rotate_launch, arguments, "rotate")
    }

    package func storeKV(
        _ qkv: Tensor, keyOffset: Int, valueOffset: Int, kvHeads: Int, headDim: Int, slots: Tensor, cache: KVLayer
    ) {
        precondition(slots.elementCount >= qkv.rowCount)
        let isHeld = storeHeld(
            qkv, keyOffset: keyOffset, valueOffset: valueOffset, kvHeads: kvHeads, headDim: headDim, slots: slots,
            cache: cache)
        if isHeld { return }
        let arguments = cuda_store_kv_arguments(
            cache: layer(cache, kvHeads: kvHeads, headDim: headDim), qkv: floats(qkv), slots: integers(slots),
            token_count: Int32(qkv.rowCount), qkv_stride: Int32(qkv.rowElementCount), key_offset: Int32(keyOffset),
            value_offset: Int32(valueOffset))
        unsafe launch(cuda_store_kv_launch, arguments, "storeKV")
    }

    /// The attention kernels' memory for the largest step that these capacities allow.
    func attentionScratch(
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

    func layer(_ cache: KVLayer, kvHeads: Int, headDim: Int) -> cuda_kv_layer {
        let dtype: DType = cache.type == .bfloat16 ? .bf16 : .i32
        let hasPanels = hopper != nil && cache.type == .bfloat16 && cuda_kv_takes_panels(Int32(headDim))
        return cuda_kv_layer(
            keys: address(cache.keys, dtype), values: address(cache.values, dtype),
            block_size: Int32(cache.blockSize), kv_heads: Int32(kvHeads), head_dim: Int32(headDim),
            type: hasPanels ? Int32(CUDA_KV_PANELS) : cache.type.kernel)
    }

    func cudaWeight(_ weight: PreparedWeight) -> CUDAWeight {
        guard let storage = weight.storage as? CUDAWeight else { preconditionFailure("a weight of another backend") }
        return storage
    }

    func floats(_ tensor: Tensor) -> cuda_address { address(tensor, .f32) }
    func halves(_ tensor: Tensor) -> cuda_address { address(tensor, .bf16) }
    func integers(_ tensor: Tensor) -> cuda_address { address(tensor, .i32) }

    private func address(_ tensor: Tensor, _ dtype: DType) -> cuda_address {
        precondition(tensor.dtype == dtype, "a tensor of \(tensor.dtype) where \(dtype) belongs")
        return cuda_address(tensor.address)
    }
}

extension KVCacheType {
    /// The kernels' number of it.
    var kernel: Int32 {
        switch self {
        case .fp8: Int32(CUDA_KV_E4M3)
        case .int8PerTokenHead: Int32(CUDA_KV_INT8)
        case .auto, .float32, .bfloat16: Int32(CUDA_KV_BF16)
        }
    }
}
