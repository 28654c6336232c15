// The CPU as a compute device: memory, weights and the operations, each one call into the C kernels.
//
// Numbers do not depend on batch, threads, block size or prefill chunks: see Kernels/cpu.

import CPUKernels
import Tensors

/// The CPU implementation of `Backend`. Lives on the engine's thread, which is the first of its worker threads.
///
/// Safe to hold: the context belongs to this object, and tensors' addresses come from its own `allocate`.
@safe
package final class CPUBackend: Backend {
    /// How weights and activations are kept.
    package let precision: ComputePrecision
    /// What the kernels run on.
    package let instructionSet: CPUInstructionSet
    /// Threads that compute, the engine's included.
    package let threadCount: Int
    let context: OpaquePointer
    /// The first failure of a step, kept until `synchronize` reports it; sticky.
    private var failure: BackendError?
    /// What `collect` will sample from.
    private var sampledLogits: Tensor?
    /// The rows to sample as the kernels read them; kept so that a step allocates nothing.
    private var samplingParameters: [cpu_sampling_row] = []
    /// What is done to the logits of those that ask for it; empty in most steps.
    private var adjustments = AdjustmentLists()
    /// Set while a step's operations are asked for: its rows.
    private var stepRows: Int64?
    package private(set) var collectives: (any Collectives)?

    /// The most threads that can be asked for.
    package static let maxThreads = 512

    /// - Parameters:
    ///   - instructionSet: nil for the best this machine has.
    ///   - threads: 1 to `maxThreads`.
    ///   - seat: its place in a group of ranks, if it is one.
    package init(
        precision: ComputePrecision, instructionSet: CPUInstructionSet?, threads: Int, seat: RankSeat? = nil
    ) throws(BackendError) {
        let chosen = instructionSet ?? CPUInstructionSet.available.first ?? .portable
        guard chosen.isAvailable else {
            let names = CPUInstructionSet.available.map(\.rawValue).joined(separator: ", ")
            throw .unsupported(
                operation: "\(chosen.rawValue) kernels", reason: "this machine has only \(names)")
        }
        guard (1...Self.maxThreads).contains(threads) else {
            throw .unsupported(
                operation: "\(threads) threads", reason: "the number of threads is 1 to \(Self.maxThreads)")
        }
        guard let context = unsafe cpu_context_create(Int32(chosen.identifier), Int32(threads)) else {
            throw .deviceFailure(operation: "start-up", reason: "could not start \(threads) threads")
        }
        unsafe self.context = unsafe context
        self.precision = precision
        self.instructionSet = chosen
        threadCount = threads
        collectives = seat.map { CPUCollectives($0, self) }
    }

    deinit { unsafe cpu_context_destroy(context) }

    package var summary: String {
        "CPU, \(instructionSet.rawValue), \(threadCount) thread\(threadCount == 1 ? "" : "s")"
    }

    // A step is computed while it is asked for, in the shape it has.
    package var isAsynchronous: Bool { false }
    package var padsSteps: Bool { false }
    package var linearInputType: DType { .f32 }
    package func padded(_ shape: StepShape) -> StepShape { shape }

    // MARK: Memory

    package func allocate(_ shape: Shape, _ dtype: DType, purpose: String) throws(BackendError) -> Tensor {
        try allocate(shape, dtype, isStreamed: false, purpose: purpose)
    }

    /// - Parameter isStreamed: whether much of it is read in each step, so that large pages are worth their memory.
    private func allocate(
        _ shape: Shape, _ dtype: DType, isStreamed: Bool, purpose: String
    ) throws(BackendError) -> Tensor {
        var elements: Int? = 1
        for dimension in 0..<shape.rank { elements = elements.flatMap { Self.product($0, shape[dimension]) } }
        guard let byteCount = elements.flatMap({ dtype.rowByteCount(elementCount: $0) }) else {
            throw .outOfMemory(byteCount: .max, purpose: purpose)
        }
        let buffer = try map(byteCount: byteCount, isStreamed: isStreamed, purpose: purpose)
        return Tensor(buffer: buffer, shape: shape, dtype: dtype)
    }

    package func kvCacheType(_ type: KVCacheType) throws(BackendError) -> KVCacheType {
        switch type {
        case .auto: precision == .float32 ? .float32 : .bfloat16
        case .float32, .bfloat16, .int8PerTokenHead: type
        case .fp8:
            throw .unsupported(
                operation: "a KV cache of \(type.rawValue) on the CPU",
                reason: "it has float32, bfloat16 and int8_per_token_head")
        }
    }

    package func allocateKVLayer(
        blockCount: Int, kvHeads: Int, blockSize: Int, headDim: Int, type: KVCacheType
    ) throws(BackendError) -> KVLayer {
        let type = try kvCacheType(type)
        guard [8, 16, 32, 64, 128].contains(blockSize) else {
            throw .unsupported(operation: "block size \(blockSize)", reason: "it must be 8, 16, 32, 64 or 128")
        }
        guard headDim > 0, headDim % 8 == 0, headDim <= 256 else {
            throw .unsupported(
                operation: "attention heads of \(headDim)", reason: "it must be a multiple of 8 up to 256")
        }
        // A head's elements of a block in 8 bits, and behind them its tokens' scales.
        let shape: Shape =
            type == .int8PerTokenHead
            ? [blockCount, kvHeads, blockSize * (headDim + 4) / 4] : [blockCount, kvHeads, blockSize, headDim]
        let dtype: DType = type == .int8PerTokenHead ? .i32 : type == .float32 ? .f32 : .bf16
        let keys = try allocate(shape, dtype, isStreamed: true, purpose: "the key cache")
        let values = try allocate(shape, dtype, isStreamed: true, purpose: "the value cache")
        return KVLayer(keys: keys, values: values, blockSize: blockSize, type: type)
    }

    package func kvBytesPerToken(kvHeads: Int, headDim: Int, type: KVCacheType) throws(BackendError) -> Int {
        guard let count = try kvCacheType(type).bytesPerToken(kvHeads: kvHeads, headDim: headDim) else {
            preconditionFailure("a type that was chosen is not chosen")
        }
        return count
    }

    package func upload(_ values: [Int32], count: Int, to tensor: Tensor) {
        precondition(tensor.dtype == .i32 && count <= values.count && count <= tensor.elementCount)
        unsafe values.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            unsafe address(tensor).copyMemory(from: base, byteCount: count * MemoryLayout<Int32>.stride)
        }
    }

    package func upload(_ values: [Float], to tensor: Tensor) {
        precondition(tensor.dtype == .f32 && values.count <= tensor.elementCount)
        unsafe values.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            unsafe address(tensor).copyMemory(from: base, byteCount: source.count)
        }
    }

    package func download(_ tensor: Tensor) -> [Float] {
        precondition(tensor.dtype == .f32)
        return unsafe Array(UnsafeBufferPointer(start: floats(tensor), count: tensor.elementCount))
    }

    package func synchronize() throws(BackendError) {
        if let failure { throw failure }
        if let failure = collectives?.group.failure { throw .rankFailure(failure) }
    }

    package func perform(_ shape: StepShape, _ body: () -> Void) {
        let rows = Int64(shape.tokenCount)
        stepRows = rows
        unsafe cpu_begin_step(context, rows)
        body()
        note(unsafe cpu_end_step(context), "a step")
        stepRows = nil
    }

    /// Runs the operations that were asked for and only recorded, so that others may read what they write.
    func runRecorded() {
        guard let stepRows else { return }
        note(unsafe cpu_end_step(context), "a step")
        unsafe cpu_begin_step(context, stepRows)
    }

    // MARK: Operations on rows

    package func embed(_ tokens: Tensor, _ table: PreparedWeight, into output: Tensor) {
        precondition(output.rowElementCount == table.columnCount && output.rowCount >= tokens.elementCount)
        var descriptor = unsafe cpuWeight(table).descriptor
        unsafe descriptor.first_token = Int64(table.firstRow ?? -1)
        unsafe withUnsafePointer(to: descriptor) {
            unsafe cpu_embed(context, integers(tokens), Int64(tokens.elementCount), $0, floats(output))
        }
    }

    package func linear(_ x: Tensor, _ weight: PreparedWeight, into output: Tensor, mode: LinearMode) {
        precondition(
            x.rowElementCount == weight.columnCount && output.rowElementCount == weight.rowCount
                && output.rowCount >= x.rowCount)
        let isDone = unsafe withUnsafePointer(to: cpuWeight(weight).descriptor) {
            unsafe cpu_linear(
                context, floats(x), Int64(x.rowCount), Int64(x.rowElementCount), $0, floats(output),
                Int64(output.rowElementCount), mode == .accumulate)
        }
        note(isDone, "linear")
    }

    package func rotate(
        _ x: Tensor, heads: Int, headDim: Int, positions: Tensor, frequencies: Tensor, magnitude: Float,
        layout: RotaryLayout
    ) {
        precondition(heads * headDim <= x.rowElementCount && positions.elementCount >= x.rowCount)
        precondition(frequencies.elementCount * 2 <= headDim)
        let isDone = unsafe cpu_rotate(
            context, floats(x), Int64(x.rowCount), Int64(x.rowElementCount), Int64(heads), Int64(headDim),
            integers(positions), floats(frequencies), Int64(frequencies.elementCount), magnitude,
            layout == .interleaved)
        note(isDone, "rotate")
    }

    package func gatherRows(_ x: Tensor, rows: Tensor, into output: Tensor) {
        precondition(x.rowElementCount == output.rowElementCount && output.rowCount >= rows.elementCount)
        unsafe cpu_gather_rows(
            context, floats(x), Int64(x.rowElementCount), integers(rows), Int64(rows.elementCount), floats(output))
    }

    // MARK: Sampling

    package func sample(_ logits: Tensor, _ rows: [SamplingRow]) {
        precondition(rows.count <= logits.rowCount && sampledLogits == nil)
        sampledLogits = logits
        samplingParameters.removeAll(keepingCapacity: true)
        if !adjustments.isEmpty { adjustments.removeAll() }
        // The first rank chooses, and nobody asks for what it chose before it is known.
        if let collectives, collectives.shard.rank > 0 { return }
        for row in rows {
            precondition(row.mask.map { $0.count == (logits.rowElementCount + 31) / 32 } ?? true)
            samplingParameters.append(
                cpu_sampling_row(
                    temperature: row.temperature, top_p: row.topP, min_p: row.minP, top_k: Int64(row.topK),
                    seed: row.seed, position: row.position, alternatives: Int64(row.logprobCount ?? -1),
                    scored: Int64(row.scoredToken ?? -1),
                    adjustment: row.adjustments.map { adjustments.append($0) } ?? -1,
                    mask: row.mask.map { adjustments.append(mask: $0) } ?? -1))
        }
    }

    package func collect(into results: inout SamplingResults) throws(BackendError) {
        guard let logits = sampledLogits else { preconditionFailure("nothing was sampled") }
        let rowCount = samplingParameters.count
        precondition(rowCount <= results.tokens.count)
        sampledLogits = nil
        if rowCount > 0 {
            let isDone = unsafe adjustments.withPointer { adjustments in
                unsafe sampleRows(logits, rowCount, adjustments, into: &results)
            }
            note(isDone, "sampling")
        }
        try synchronize()
    }

    private func sampleRows(
        _ logits: Tensor, _ rowCount: Int, _ adjustments: UnsafePointer<cpu_logit_adjustments>?,
        into results: inout SamplingResults
    ) -> Bool {
        unsafe results.tokens.withUnsafeMutableBufferPointer { tokens in
            unsafe results.logprobs.withUnsafeMutableBufferPointer { logprobs in
                unsafe results.isFinite.withUnsafeMutableBufferPointer { isFinite in
                    unsafe results.ranks.withUnsafeMutableBufferPointer { ranks in
                        unsafe results.alternativeTokens.withUnsafeMutableBufferPointer { alternatives in
                            unsafe results.alternativeLogprobs.withUnsafeMutableBufferPointer { alternativeLogprobs in
                                var target = unsafe cpu_sampling_results(
                                    tokens: tokens.baseAddress, logprobs: logprobs.baseAddress,
                                    is_finite: isFinite.baseAddress, ranks: ranks.baseAddress,
                                    alternative_tokens: alternatives.baseAddress,
                                    alternative_logprobs: alternativeLogprobs.baseAddress,
                                    alternative_stride: Int64(SamplingResults.maxAlternatives))
                                return unsafe cpu_sample(
                                    context, floats(logits), Int64(rowCount), Int64(logits.rowElementCount),
                                    samplingParameters, adjustments, &target)
                            }
                        }
                    }
                }
            }
        }
    }

    // MARK: Addresses

    /// Remembers that an operation could not get its scratch memory.
    func note(_ isDone: Bool, _ operation: String) {
        if !isDone, failure == nil {
            failure = .deviceFailure(operation: operation, reason: "out of memory for scratch space")
        }
    }

    /// Anonymous memory, zero until written, whose pages come with the first write.
    func map(byteCount: Int, isStreamed: Bool, purpose: String) throws(BackendError) -> DeviceBuffer {
        let mapped = max(byteCount, 64)
        guard let memory = unsafe cpu_map(UInt64(mapped), isStreamed) else {
            throw .outOfMemory(byteCount: byteCount, purpose: purpose)
        }
        return DeviceBuffer(address: UInt(bitPattern: memory), byteCount: mapped) { address, byteCount in
            unsafe cpu_unmap(UnsafeMutableRawPointer(bitPattern: address), UInt64(byteCount))
        }
    }

    static func product(_ a: Int, _ b: Int) -> Int? {
        let (result, overflow) = a.multipliedReportingOverflow(by: b)
        return overflow || result < 0 ? nil : result
    }

    func cpuWeight(_ weight: PreparedWeight) -> CPUWeight {
        guard let storage = weight.storage as? CPUWeight else { preconditionFailure("a weight of another backend") }
        return storage
    }

    func address(_ tensor: Tensor) -> UnsafeMutableRawPointer {
        guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: tensor.address) else {
            preconditionFailure("a tensor without memory")
        }
        return unsafe pointer
    }

    func floats(_ tensor: Tensor) -> UnsafeMutablePointer<Float> {
        precondition(tensor.dtype == .f32, "a tensor of \(tensor.dtype) where f32 belongs")
        return unsafe address(tensor).assumingMemoryBound(to: Float.self)
    }

    func integers(_ tensor: Tensor) -> UnsafeMutablePointer<Int32> {
        precondition(tensor.dtype == .i32, "a tensor of \(tensor.dtype) where i32 belongs")
        return unsafe address(tensor).assumingMemoryBound(to: Int32.self)
    }
}
