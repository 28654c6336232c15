// The seam between models and devices: memory, weights and about a dozen operations.
//
// An operation enters with its CPU version, its conformance test and a model that needs it. What a backend cannot
// do it refuses while loading (`prepare`, `allocate`), so operations on prepared values do not throw: a device that
// fails is reported by `collect` or `synchronize`, one of which ends every step.
//
// All methods are called from one thread, the engine's, and take effect in the order of the calls.

/// A weight in the layout a backend multiplies fastest. Made by `Backend.prepare`, opaque to everyone else.
package final class PreparedWeight {
    /// Output features.
    package let rowCount: Int
    /// Input features.
    package let columnCount: Int
    /// The row of the whole matrix that is row 0 here, where a rank has only a part of an embedding table: `embed` then
    /// takes tokens of the whole. Nil where this is the whole.
    package var firstRow: Int?
    /// Bytes this weight occupies on the device.
    package let byteCount: Int
    /// The backend's own form of it.
    package let storage: AnyObject

    package init(rowCount: Int, columnCount: Int, byteCount: Int, storage: AnyObject) {
        self.rowCount = rowCount
        self.columnCount = columnCount
        self.byteCount = byteCount
        self.storage = storage
    }
}

/// How a backend keeps weights and activations.
package enum ComputePrecision: String, Sendable, CaseIterable {
    /// Weights as quantized in the checkpoint, activations as the backend multiplies fastest.
    case auto
    /// Weights and activations in 32-bit floats: the reference every faster kernel is checked against.
    case float32
}

/// Which pairs of elements a rotary embedding turns.
package enum RotaryLayout: Sendable {
    /// (0, 1), (2, 3), …: GGUF files of the llama family.
    case interleaved
    /// (0, dim/2), (1, dim/2 + 1), …: Hugging Face's order.
    case halves
}

/// Whether an operation overwrites its output or adds to it (a residual connection).
package enum LinearMode: Sendable {
    case overwrite
    case accumulate
}

/// Rows of a matrix whose results a following operation combines. A backend that keeps both in one place can do so
/// before anything is stored.
package enum RowPairs: Sendable, Equatable {
    case none
    /// (0, 1), (2, 3), …
    case neighbours
    /// (0, n/2), (1, n/2 + 1), … of each run of n rows.
    case halves(of: Int)
}

/// What a captured step may depend on. Two steps of equal shape run the same operations on the same addresses.
package struct StepShape: Hashable, Sendable {
    package var tokenCount: Int
    package var sequenceCount: Int
    /// Rows whose logits are computed.
    package var sampledRowCount: Int
    /// Whether each sequence has one token.
    package var isDecodeOnly: Bool
    /// Whether some row has an adapter; those without then run the same operations.
    package var usesAdapters: Bool
    /// Whether each sampled row's likeliest token is chosen and its logits are not looked at.
    package var samplesGreedily: Bool

    package init(
        tokenCount: Int, sequenceCount: Int, sampledRowCount: Int, isDecodeOnly: Bool, usesAdapters: Bool = false,
        samplesGreedily: Bool = false
    ) {
        self.usesAdapters = usesAdapters
        self.samplesGreedily = samplesGreedily
        self.tokenCount = tokenCount
        self.sequenceCount = sequenceCount
        self.sampledRowCount = sampledRowCount
        self.isDecodeOnly = isDecodeOnly
    }
}

/// A compute device. Activations are f32 tensors of shape [tokens, features] unless said otherwise.
package protocol Backend: AnyObject {
    /// One line for the start-up report: device, instruction set, threads.
    var summary: String { get }
    /// Whether `sample` returns before its results are known; the engine plans the next step meanwhile.
    var isAsynchronous: Bool { get }
    /// Whether `padded` ever enlarges a shape; the cache then has one more block, which filled-up rows write to.
    var padsSteps: Bool { get }
    /// The type in which `linear` reads its input, and so the type of what `rmsNorm`, `attend` and `gate` write.
    var linearInputType: DType { get }
    /// The other ranks, where this backend computes one of several parts of a model; nil where it has the whole. Models
    /// are loaded and run accordingly: the part of each weight, and a `sum` after each matrix cut by its inputs.
    var collectives: (any Collectives)? { get }

    // MARK: Memory

    /// Memory of `shape`; its content is unspecified until written.
    func allocate(_ shape: Shape, _ dtype: DType, purpose: String) throws(BackendError) -> Tensor
    /// What keys and values are kept as when `type` is asked for: never `auto`. Asked before weights are loaded.
    /// - Throws: `BackendError.unsupported` for a type this backend does not have.
    func kvCacheType(_ type: KVCacheType) throws(BackendError) -> KVCacheType
    /// Zero-filled cache for one layer. Pages are touched only when written.
    func allocateKVLayer(
        blockCount: Int, kvHeads: Int, blockSize: Int, headDim: Int, type: KVCacheType
    ) throws(BackendError) -> KVLayer
    /// Bytes one token occupies in one layer's cache.
    func kvBytesPerToken(kvHeads: Int, headDim: Int, type: KVCacheType) throws(BackendError) -> Int
    /// Copies host values to the first elements of `tensor` (i32). The caller may change them when this returns;
    /// operations asked for earlier still see what the tensor held.
    func upload(_ values: [Int32], count: Int, to tensor: Tensor)
    /// Copies host values to the first elements of `tensor` (f32).
    func upload(_ values: [Float], to tensor: Tensor)
    /// Copies the tensor's elements (f32) to the host. For tests and tools; serving reads only `SamplingResults`.
    func download(_ tensor: Tensor) -> [Float]
    /// Waits for everything asked for so far and reports a device that failed.
    func synchronize() throws(BackendError)

    // MARK: Weights and steps

    /// Converts a matrix, given as row blocks stacked in order ([rows_i, columns] each), into the layout `linear`
    /// and `embed` read. Row blocks may differ in dtype.
    func prepare(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight
    /// The same for a matrix whose results are combined in `pairs`: by `linearGated`, or rotated as heads.
    func prepare(_ parts: [StoredTensor], pairs: RowPairs) throws(BackendError) -> PreparedWeight
    /// The same for a matrix that `mixExperts` reads; `linear` reads it too.
    func prepareExpert(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight
    /// Throws unless this backend has `feature`; asked for while loading.
    func require(_ feature: BackendFeature) throws(BackendError)
    /// The shape that a step is filled up to, so that few shapes are captured. No count shrinks, none ever falls when
    /// the step grows, and a decode-only step keeps one token for each sequence.
    func padded(_ shape: StepShape) -> StepShape
    /// Runs the operations of one step of a `padded` shape; a device may capture them once per shape and replay.
    func perform(_ shape: StepShape, _ body: () -> Void)

    // MARK: Operations

    /// output[t] = table[tokens[t]]. tokens: [tokens] i32; output: [tokens, hidden]. Token −1 − r stands for the token
    /// that row r of the latest `sample` chose, on the first rank where there are several; only asynchronous backends
    /// are asked for it. Where `table` has a `firstRow`, its rows are those of tokens firstRow ..< firstRow + rowCount,
    /// and all other tokens give zeros.
    func embed(_ tokens: Tensor, _ table: PreparedWeight, into output: Tensor)
    /// output[t] (+)= x[t] · weight / √(mean(x[t]²) + epsilon). x, output: [tokens, hidden]; weight: [hidden] f32. What
    /// is added to is f32.
    func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor, mode: LinearMode)
    /// Normalizes `heads` heads of each row of `x` in place, each on its own, from the `firstHead`-th on. x: [tokens,
    /// ≥ heads × headDim] f32; weight: [headDim] f32.
    func normalizeHeads(
        _ x: Tensor, firstHead: Int, heads: Int, headDim: Int, weight: Tensor, epsilon: Float)
    /// x[t] += bias. x: [tokens, columns] f32; bias: [columns] f32.
    func addBias(_ bias: Tensor, to x: Tensor)
    /// Replaces every element of `x` (f32).
    func apply(_ function: ElementFunction, to x: Tensor)
    /// output[t] (+)= weight · x[t]. x: [tokens, columns]; output: [tokens, rows].
    func linear(_ x: Tensor, _ weight: PreparedWeight, into output: Tensor, mode: LinearMode)
    /// output = activation(h[:, :ffn], h[:, ffn:]) with h = weight · x. x: [tokens, columns]; output: [tokens, ffn].
    /// scratch: [tokens, 2 × ffn], of which nothing is known afterwards.
    func linearGated(
        _ x: Tensor, _ weight: PreparedWeight, _ activation: GateActivation, scratch: Tensor, into output: Tensor)
    /// output[t] += up[a] · (down[a] · x[t]) with a = choices[t], in the columns that `deltas` changes; rows whose
    /// choice is negative stay as they are. choices: [tokens] i32. Only after `require(.adapters)`.
    func addLowRank(_ x: Tensor, _ deltas: LowRankDeltas, choices: Tensor, into output: Tensor)
    /// `linear` into logits that are chosen from greedily and not read otherwise, within `perform` of a shape that says
    /// so: a backend may keep less than the logits, which `sample` then chooses by.
    func linearToChoose(_ x: Tensor, _ head: PreparedWeight, into logits: Tensor)
    /// Rotates the first `heads` heads of each row of `x` in place (`x`: [tokens, ≥ heads × headDim], row stride its
    /// width). frequencies: [rotaryDim / 2] f32 radians per position. What was turned is multiplied by `magnitude`.
    func rotate(
        _ x: Tensor, heads: Int, headDim: Int, positions: Tensor, frequencies: Tensor, magnitude: Float,
        layout: RotaryLayout)
    /// Writes each row's keys and values (columns [keyOffset…] and [valueOffset…] of `qkv`) to its slot.
    func storeKV(
        _ qkv: Tensor, keyOffset: Int, valueOffset: Int, kvHeads: Int, headDim: Int,
        slots: Tensor, cache: KVLayer)
    /// Causal attention of each row of `q` (the first heads × headDim columns) over its sequence's cached keys.
    /// output: [tokens, heads × headDim]. Rows are independent: the result of a row depends on its own context only.
    func attend(
        _ q: Tensor, heads: Int, kvHeads: Int, headDim: Int, options: AttentionOptions, cache: KVLayer,
        batch: AttentionBatch, into output: Tensor)
    /// output = activation(x[:, :ffn], x[:, ffn:]). x: [tokens, 2 × ffn]; output: [tokens, ffn].
    func gate(_ x: Tensor, _ activation: GateActivation, into output: Tensor)
    /// output[t] += what the experts that logits[t] choose make of x[t]. x, output: [tokens, hidden]; logits: [tokens,
    /// experts] f32.
    func mixExperts(
        _ x: Tensor, logits: Tensor, _ experts: ExpertWeights, routing: ExpertRouting, activation: GateActivation,
        into output: Tensor)
    /// output[i] = x[rows[i]]. rows: [rows] i32.
    func gatherRows(_ x: Tensor, rows: Tensor, into output: Tensor)
    /// Begins to choose a token from each row of `logits` [rows, vocab], of which there may be none: it ends a step. At
    /// most two are not collected at a time, one where the backend is not asynchronous. Ranks that share a model all
    /// ask for it, for as many rows: the first chooses, and tells the others where they look such tokens up; they
    /// collect nothing but the end of the step.
    func sample(_ logits: Tensor, _ rows: [SamplingRow])
    /// Waits for the oldest `sample` that was not collected, copies what it chose to the first rows of `results`, and
    /// reports a device that failed.
    func collect(into results: inout SamplingResults) throws(BackendError)
}

extension Backend {
    package var collectives: (any Collectives)? { nil }

    package func prepareExpert(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight { try prepare(parts) }

    package func prepare(_ parts: [StoredTensor], pairs: RowPairs) throws(BackendError) -> PreparedWeight {
        try prepare(parts)
    }

    package func linearGated(
        _ x: Tensor, _ weight: PreparedWeight, _ activation: GateActivation, scratch: Tensor, into output: Tensor
    ) {
        linear(x, weight, into: scratch, mode: .overwrite)
        gate(scratch, activation, into: output)
    }

    /// A layer's cache in the form the backend chooses.
    package func allocateKVLayer(
        blockCount: Int, kvHeads: Int, blockSize: Int, headDim: Int
    ) throws(BackendError) -> KVLayer {
        try allocateKVLayer(
            blockCount: blockCount, kvHeads: kvHeads, blockSize: blockSize, headDim: headDim, type: .auto)
    }

    package func linearToChoose(_ x: Tensor, _ head: PreparedWeight, into logits: Tensor) {
        linear(x, head, into: logits, mode: .overwrite)
    }

    /// output[t] = x[t] · weight / √(mean(x[t]²) + epsilon).
    package func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor) {
        rmsNorm(x, weight: weight, epsilon: epsilon, into: output, mode: .overwrite)
    }

    /// output = silu(x[:, :ffn]) · x[:, ffn:].
    package func gate(_ x: Tensor, into output: Tensor) { gate(x, .silu, into: output) }

    /// A rotation that keeps lengths.
    package func rotate(
        _ x: Tensor, heads: Int, headDim: Int, positions: Tensor, frequencies: Tensor, layout: RotaryLayout
    ) {
        rotate(
            x, heads: heads, headDim: headDim, positions: positions, frequencies: frequencies, magnitude: 1,
            layout: layout)
    }

    /// Attention whose only option is its scale.
    package func attend(
        _ q: Tensor, heads: Int, kvHeads: Int, headDim: Int, scale: Float, cache: KVLayer, batch: AttentionBatch,
        into output: Tensor
    ) {
        attend(
            q, heads: heads, kvHeads: kvHeads, headDim: headDim, options: AttentionOptions(scale: scale), cache: cache,
            batch: batch, into: output)
    }
}
