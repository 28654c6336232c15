// The CPU as a device that works on its own: operations wait in a queue until somebody waits for their results.
//
// As late as possible is the worst case for whoever reuses memory, reads results or changes inputs too early. Steps are
// filled up to multiples of 8, and a token that was sampled is looked up here when the next step is executed.

import CPUBackend
import Execution
import Foundation
import Synchronization
import Tensors

/// How a `DeferredBackend` behaves, and what a test can learn of it from another thread.
package final class Deferral: Sendable {
    /// Calls of `collect` that succeed.
    package let collectLimit: Int
    /// Calls of `collect` that come to nothing, from 1.
    package let lostCollects: Set<Int>
    /// Every state of this token is made NaN; −1 for none.
    package let poisonedToken = Atomic<Int32>(-1)
    /// The most steps that were begun and not collected.
    package let mostInFlight = Atomic<Int>(0)
    /// While set, no step ends.
    package let isStuck = Atomic<Bool>(false)
    /// What each step takes at least.
    package let pace: Duration

    package init(collectLimit: Int = .max, lostCollects: Set<Int> = [], pace: Duration = .zero) {
        self.collectLimit = collectLimit
        self.lostCollects = lostCollects
        self.pace = pace
    }

    /// Takes the time that a test asked for.
    func pause() {
        if pace > .zero { Thread.sleep(forTimeInterval: pace.seconds) }
        while isStuck.load(ordering: .relaxed) { Thread.sleep(forTimeInterval: 0.001) }
    }
}

/// A `CPUBackend` behind a queue. Lives on the engine's thread.
package final class DeferredBackend: Backend {
    private let device: CPUBackend
    private let deferral: Deferral
    private var queue: [() -> Void] = []
    /// How many operations of the queue each `sample` that was not collected waits for, oldest first.
    private var sampleEnds: [Int] = []
    /// What executed `sample`s chose, oldest first.
    private var results: [SamplingResults] = []
    /// [rows] What the latest of them chose.
    private var chosen: [Int32] = []
    /// The last values of each i32 tensor, by address.
    private var integers: [UInt: [Int32]] = [:]
    private var failure: BackendError?
    private var collectCount = 0
    package private(set) var collectives: (any Collectives)?

    package init(_ device: CPUBackend, _ deferral: Deferral) {
        self.device = device
        self.deferral = deferral
        collectives = device.collectives.map { DeferredCollectives($0, self) }
    }

    package var summary: String { device.summary + ", deferred" }
    package var isAsynchronous: Bool { true }
    package var padsSteps: Bool { true }
    package var linearInputType: DType { device.linearInputType }

    package func padded(_ shape: StepShape) -> StepShape {
        func up(_ count: Int) -> Int { (count + 7) / 8 * 8 }
        return StepShape(
            tokenCount: up(shape.tokenCount), sequenceCount: up(shape.sequenceCount),
            sampledRowCount: up(shape.sampledRowCount), isDecodeOnly: shape.isDecodeOnly,
            usesAdapters: shape.usesAdapters, samplesGreedily: shape.samplesGreedily)
    }

    package func perform(_ shape: StepShape, _ body: () -> Void) {
        precondition(shape == padded(shape), "a step of \(shape) was not filled up")
        body()
    }

    // MARK: The queue

    /// Adds an operation.
    fileprivate func later(_ operation: @escaping () -> Void) { queue.append(operation) }

    /// Executes the first `count` operations.
    private func execute(_ count: Int) {
        for operation in queue.prefix(count) { operation() }
        queue.removeFirst(count)
        for index in sampleEnds.indices { sampleEnds[index] -= count }
    }

    package func synchronize() throws(BackendError) {
        deferral.pause()
        execute(queue.count)
        if let failure { throw failure }
        try device.synchronize()
    }

    package func sample(_ logits: Tensor, _ rows: [SamplingRow]) {
        queue.append { [unowned self] in
            var chosen = SamplingResults(rowCapacity: rows.count)
            device.sample(logits, rows)
            do throws(BackendError) { try device.collect(into: &chosen) } catch { failure = error }
            self.chosen = tell(chosen.tokens)
            results.append(chosen)
        }
        sampleEnds.append(queue.count)
        precondition(sampleEnds.count <= 2, "\(sampleEnds.count) steps are in flight")
        deferral.mostInFlight.max(sampleEnds.count, ordering: .relaxed)
    }

    /// What the first rank chose, which all ranks hear.
    private func tell(_ tokens: [Int32]) -> [Int32] {
        guard let ranks = device.collectives, !tokens.isEmpty else { return tokens }
        let (shard, count) = (ranks.shard, tokens.count)
        do throws(BackendError) {
            let parts = try device.allocate([shard.count, count], .f32, purpose: "test")
            let all = try device.allocate([1, shard.count * count], .f32, purpose: "test")
            device.upload(tokens.map { Float(Int($0)) }, to: parts.rows(shard.rank..<shard.rank + 1))
            ranks.gather(parts, into: all)
            return device.download(all).prefix(count).map { Int32($0) }
        } catch {
            failure = error
            return tokens
        }
    }

    package func collect(into results: inout SamplingResults) throws(BackendError) {
        deferral.pause()
        collectCount += 1
        if collectCount > deferral.collectLimit {
            failure = .deviceFailure(operation: "collect", reason: "a test asked for it")
        }
        // After a `synchronize` there is nothing left to wait for.
        execute(max(0, sampleEnds.removeFirst()))
        if let failure { throw failure }
        let chosen = self.results.removeFirst()
        if deferral.lostCollects.contains(collectCount) {
            throw .lostStep(operation: "collect", reason: "a test asked for it")
        }
        results.tokens.replaceSubrange(chosen.tokens.indices, with: chosen.tokens)
        results.logprobs.replaceSubrange(chosen.logprobs.indices, with: chosen.logprobs)
        results.ranks.replaceSubrange(chosen.ranks.indices, with: chosen.ranks)
        results.isFinite.replaceSubrange(chosen.isFinite.indices, with: chosen.isFinite)
        results.alternativeTokens.replaceSubrange(chosen.alternativeTokens.indices, with: chosen.alternativeTokens)
        results.alternativeLogprobs.replaceSubrange(
            chosen.alternativeLogprobs.indices, with: chosen.alternativeLogprobs)
    }

    // MARK: Memory and weights

    package func allocate(_ shape: Shape, _ dtype: DType, purpose: String) throws(BackendError) -> Tensor {
        try device.allocate(shape, dtype, purpose: purpose)
    }

    package func kvCacheType(_ type: KVCacheType) throws(BackendError) -> KVCacheType { try device.kvCacheType(type) }

    package func allocateKVLayer(
        blockCount: Int, kvHeads: Int, blockSize: Int, headDim: Int, type: KVCacheType
    ) throws(BackendError) -> KVLayer {
        try device.allocateKVLayer(
            blockCount: blockCount, kvHeads: kvHeads, blockSize: blockSize, headDim: headDim, type: type)
    }

    package func kvBytesPerToken(kvHeads: Int, headDim: Int, type: KVCacheType) throws(BackendError) -> Int {
        try device.kvBytesPerToken(kvHeads: kvHeads, headDim: headDim, type: type)
    }

    package func upload(_ values: [Int32], count: Int, to tensor: Tensor) {
        queue.append { [unowned self] in
            device.upload(values, count: count, to: tensor)
            integers[tensor.address] = Array(values.prefix(count))
        }
    }

    package func upload(_ values: [Float], to tensor: Tensor) {
        queue.append { [unowned self] in device.upload(values, to: tensor) }
    }

    package func download(_ tensor: Tensor) -> [Float] {
        execute(queue.count)
        return device.download(tensor)
    }

    package func prepare(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight {
        try device.prepare(parts)
    }

    // MARK: Operations

    package func embed(_ tokens: Tensor, _ table: PreparedWeight, into output: Tensor) {
        queue.append { [unowned self] in
            let ids = (integers[tokens.address] ?? []).map { $0 < 0 ? chosen[Int(-1 - $0)] : $0 }
            device.upload(ids, count: ids.count, to: tokens)
            device.embed(tokens, table, into: output)
            poison(output, ids)
        }
    }

    /// Spoils the rows of the token that a test chose.
    private func poison(_ output: Tensor, _ ids: [Int32]) {
        let token = deferral.poisonedToken.load(ordering: .relaxed)
        guard token >= 0, ids.contains(token) else { return }
        var values = device.download(output)
        let width = values.count / output.rowCount
        for (row, id) in ids.enumerated() where id == token {
            for column in 0..<width { values[row * width + column] = .nan }
        }
        device.upload(values, to: output)
    }

    package func require(_ feature: BackendFeature) { device.require(feature) }

    package func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor, mode: LinearMode) {
        queue.append { [unowned self] in
            device.rmsNorm(x, weight: weight, epsilon: epsilon, into: output, mode: mode)
        }
    }

    package func normalizeHeads(
        _ x: Tensor, firstHead: Int, heads: Int, headDim: Int, weight: Tensor, epsilon: Float
    ) {
        queue.append { [unowned self] in
            device.normalizeHeads(
                x, firstHead: firstHead, heads: heads, headDim: headDim, weight: weight, epsilon: epsilon)
        }
    }

    package func addBias(_ bias: Tensor, to x: Tensor) {
        queue.append { [unowned self] in device.addBias(bias, to: x) }
    }

    package func apply(_ function: ElementFunction, to x: Tensor) {
        queue.append { [unowned self] in device.apply(function, to: x) }
    }

    package func mixExperts(
        _ x: Tensor, logits: Tensor, _ experts: ExpertWeights, routing: ExpertRouting, activation: GateActivation,
        into output: Tensor
    ) {
        queue.append { [unowned self] in
            device.mixExperts(
                x, logits: logits, experts, routing: routing, activation: activation, into: output)
        }
    }

    package func linear(_ x: Tensor, _ weight: PreparedWeight, into output: Tensor, mode: LinearMode) {
        queue.append { [unowned self] in device.linear(x, weight, into: output, mode: mode) }
    }

    package func addLowRank(_ x: Tensor, _ deltas: LowRankDeltas, choices: Tensor, into output: Tensor) {
        queue.append { [unowned self] in device.addLowRank(x, deltas, choices: choices, into: output) }
    }

    package func rotate(
        _ x: Tensor, heads: Int, headDim: Int, positions: Tensor, frequencies: Tensor, magnitude: Float,
        layout: RotaryLayout
    ) {
        queue.append { [unowned self] in
            device.rotate(
                x, heads: heads, headDim: headDim, positions: positions, frequencies: frequencies,
                magnitude: magnitude, layout: layout)
        }
    }

    package func storeKV(
        _ qkv: Tensor, keyOffset: Int, valueOffset: Int, kvHeads: Int, headDim: Int, slots: Tensor, cache: KVLayer
    ) {
        queue.append { [unowned self] in
            device.storeKV(
                qkv, keyOffset: keyOffset, valueOffset: valueOffset, kvHeads: kvHeads, headDim: headDim, slots: slots,
                cache: cache)
        }
    }

    package func attend(
        _ q: Tensor, heads: Int, kvHeads: Int, headDim: Int, options: AttentionOptions, cache: KVLayer,
        batch: AttentionBatch, into output: Tensor
    ) {
        queue.append { [unowned self] in
            device.attend(
                q, heads: heads, kvHeads: kvHeads, headDim: headDim, options: options, cache: cache, batch: batch,
                into: output)
        }
    }

    package func gate(_ x: Tensor, _ activation: GateActivation, into output: Tensor) {
        queue.append { [unowned self] in device.gate(x, activation, into: output) }
    }

    package func gatherRows(_ x: Tensor, rows: Tensor, into output: Tensor) {
        queue.append { [unowned self] in device.gatherRows(x, rows: rows, into: output) }
    }
}

/// The calls of a rank whose operations wait in a queue.
private final class DeferredCollectives: Collectives {
    private let calls: any Collectives
    private unowned let backend: DeferredBackend

    init(_ calls: any Collectives, _ backend: DeferredBackend) {
        self.calls = calls
        self.backend = backend
    }

    var shard: Shard { calls.shard }
    var group: RankGroup { calls.group }

    func sum(_ x: Tensor) { backend.later { [calls] in calls.sum(x) } }

    func gather(_ parts: Tensor, into output: Tensor) {
        backend.later { [calls] in calls.gather(parts, into: output) }
    }
}
