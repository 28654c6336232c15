// Executes one step: fill the inputs, run the model, begin to sample; later, read back the chosen tokens.

import Models
import Scheduling
import Tensors

/// The model, its cache and its buffers. Lives on the engine thread.
struct ModelRunner {
    private let backend: any Backend
    private let model: any LanguageModel
    /// The others, where this is the first rank of several.
    private let ranks: RankThreads?
    /// [layers] Layers of different groups may share theirs.
    private let cache: [KVLayer]
    /// [layers of a block] What is behind them.
    private let storage: [KVLayer]
    private var batch: InputBatch
    private var results: SamplingResults
    /// [slots, 2 × KV heads × head dim] Keys and values of nothing, for as many slots as are cleared at once.
    private let zeros: Tensor
    /// [slots] Those that are cleared.
    private let scrubSlots: Tensor
    private let blockSize: Int
    /// Blocks that are cleared at once.
    private static let scrubBatch = 16
    /// What was read of the steps that were begun and not collected, oldest first.
    private var readings: [Reading] = []
    /// Steps of another rank that were followed and not waited for.
    private var followedCount = 0

    /// What the next step would overwrite.
    private struct Reading {
        /// For those who pool.
        let states: StepStates?
        /// [rows × vocab] Logits, where somebody asked for those of certain tokens.
        let logits: [Float]
    }

    init(
        parts: EngineParts, plan: MemoryPlan, limits: SchedulerLimits, kvCacheType: KVCacheType,
        ranks: RankThreads? = nil
    ) throws(BackendError) {
        backend = parts.backend
        model = parts.model
        self.ranks = ranks
        let dimensions = parts.model.dimensions
        // One block beyond the pool's, for rows that only fill a step up.
        let scratchCount = parts.backend.padsSteps ? 1 : 0
        var storage: [KVLayer] = []
        for _ in 0..<plan.layout.layersPerBlock(plan.layerGroups) {
            storage.append(
                try parts.backend.allocateKVLayer(
                    blockCount: plan.blockCount + scratchCount, kvHeads: dimensions.kvHeadCount,
                    blockSize: plan.blockSize, headDim: dimensions.headDim, type: kvCacheType))
        }
        self.storage = storage
        cache = plan.layout.places(plan.layerGroups).map { group, place in
            var layer = storage[place]
            layer.group = group
            return layer
        }
        blockSize = plan.blockSize
        let largest = parts.backend.largestStep(tokens: limits.tokenBudget, sequences: limits.maxSequences)
        batch = try InputBatch(
            largest: largest, maxModelLength: plan.maxModelLength, blockSize: plan.blockSize,
            scratchBlock: plan.blockCount, windowedGroupCount: plan.layerGroups?.windowedCount ?? 0,
            backend: parts.backend)
        results = SamplingResults(rowCapacity: limits.maxSequences)
        let width = 2 * dimensions.kvHeadCount * dimensions.headDim
        let slotCount = plan.layerGroups == nil ? plan.blockSize : Self.scrubBatch * plan.blockSize
        zeros = try backend.allocate([slotCount, width], .f32, purpose: "step inputs")
        backend.upload([Float](repeating: 0, count: slotCount * width), to: zeros)
        scrubSlots = try backend.allocate([slotCount], .i32, purpose: "step inputs")
    }

    /// Whether `begin` returns while the device still works, so that the next step can be planned meanwhile.
    var isAsynchronous: Bool { backend.isAsynchronous }

    /// Hands a step to the device. At most one that was begun before may be uncollected.
    mutating func begin(_ output: borrowing SchedulerOutput, _ constraints: ConstraintWorker) {
        ranks?.compute(output)
        let shape = forward(output, hasMasks: !constraints.isEmpty)
        readings.append(
            Reading(
                states: StepStates(output, shape, model: model, backend: backend), logits: namedLogits(of: output)))
        // The device, or the forward above, has had this time to itself; now the masks are needed.
        if !constraints.isEmpty { batch.setMasks(of: output, constraints) }
        backend.sample(model.logits.prefix(rows: batch.samplingRows.count), batch.samplingRows)
        if !constraints.isEmpty { batch.dropMasks() }
    }

    /// Computes a step of which the first rank takes the samples. Waits for the device as that one does: for the step
    /// before it, or for the step itself where the device works only while it is called.
    mutating func follow(_ output: borrowing SchedulerOutput) throws(BackendError) {
        _ = forward(output, hasMasks: false)
        backend.sample(model.logits.prefix(rows: batch.samplingRows.count), batch.samplingRows)
        followedCount += 1
        try waitForFollowed(leaving: backend.isAsynchronous ? 1 : 0)
    }

    /// Whether the device may still work on a step that was followed.
    var isFollowing: Bool { followedCount > 0 }

    /// Waits for the device to end the steps that were followed, but for the latest `count`.
    mutating func waitForFollowed(leaving count: Int = 0) throws(BackendError) {
        while followedCount > count {
            followedCount -= 1
            try backend.collect(into: &results)
        }
    }

    /// Asks for everything but the samples; returns the shape that the step is filled up to.
    private mutating func forward(_ output: borrowing SchedulerOutput, hasMasks: Bool) -> StepShape {
        scrub(output.scrubbedBlocks)
        var step = batch.fill(output, backend: backend)
        step.samplesGreedily =
            !hasMasks && !batch.samplingRows.isEmpty && batch.samplingRows.allSatisfy(\.isPlainlyGreedy)
            && !readsLogits(output)
        let shape = StepShape(
            tokenCount: step.batch.tokenCount, sequenceCount: step.batch.sequenceCount,
            sampledRowCount: step.sampledRows.rowCount, isDecodeOnly: step.batch.maxQueryLength == 1,
            usesAdapters: step.adapters != nil, samplesGreedily: step.samplesGreedily)
        backend.perform(shape) {
            model.forward(step, cache: cache, backend: backend)
        }
        return shape
    }

    /// Clears blocks in which a NaN may stand: attention multiplies what it hides by 0.
    private func scrub(_ blocks: [BlockID]) {
        let dimensions = model.dimensions
        let batch = zeros.rowCount / blockSize
        for first in stride(from: 0, to: blocks.count, by: batch) {
            let slots = blocks[first..<min(first + batch, blocks.count)].flatMap { block in
                (0..<Int32(blockSize)).map { block.rawValue * Int32(blockSize) + $0 }
            }
            backend.upload(slots, count: slots.count, to: scrubSlots)
            for layer in storage {
                backend.storeKV(
                    zeros.prefix(rows: slots.count), keyOffset: 0,
                    valueOffset: dimensions.kvHeadCount * dimensions.headDim,
                    kvHeads: dimensions.kvHeadCount, headDim: dimensions.headDim, slots: scrubSlots, cache: layer)
            }
        }
    }

    /// Waits for the oldest step that was begun, which is `output`. Leaves the samples that it asked for in `samples`,
    /// in order, and one for each scored token of a prompt in `scores`. Returns what it computed for those who pool.
    mutating func collect(
        _ output: borrowing SchedulerOutput, into samples: inout [TokenSample], scores: inout [TokenSample]
    ) throws(BackendError) -> StepStates? {
        let reading = readings.removeFirst()
        samples.removeAll(keepingCapacity: true)
        scores.removeAll(keepingCapacity: true)
        try backend.collect(into: &results)
        var row = 0
        for sequence in output.sequences {
            for token in output.scoredTokens[sequence.scoredRange] {
                scores.append(sample(row: row, logprobCount: sequence.promptLogprobCount, scored: token))
                row += 1
            }
            for _ in 0..<sequence.sampleCount {
                let sample = sample(row: row, logprobCount: sequence.sampling.logprobCount)
                samples.append(named(sequence.sampling.logprobTokens, row: row, sample, reading.logits))
                row += 1
            }
        }
        return reading.states
    }

    /// Whether a sequence of the step asks for the log-probabilities of certain tokens.
    private func readsLogits(_ output: borrowing SchedulerOutput) -> Bool {
        output.sequences.contains { $0.samples && $0.sampling.logprobTokens != nil }
    }

    /// The logits of all rows, where a sequence of the step asks for those of certain tokens; waits for the device.
    private func namedLogits(of output: borrowing SchedulerOutput) -> [Float] {
        readsLogits(output) ? backend.download(model.logits.prefix(rows: batch.samplingRows.count)) : []
    }

    /// A sample with the log-probabilities of `tokens` in place of the most likely ones: they differ from that of the
    /// token that was chosen by as much as the logits do.
    private func named(_ tokens: [TokenID]?, row: Int, _ sample: TokenSample, _ logits: [Float]) -> TokenSample {
        guard let tokens, sample.isFinite else { return sample }
        let first = row * model.dimensions.vocabularyCount
        let norm = logits[first + Int(sample.token)] - sample.logprob
        return TokenSample(
            token: sample.token, logprob: sample.logprob,
            topLogprobs: tokens.map { TokenLogprob(token: $0, logprob: logits[first + Int($0)] - norm) },
            rank: sample.rank)
    }

    private func sample(row: Int, logprobCount: Int?, scored: TokenID? = nil) -> TokenSample {
        let first = row * SamplingResults.maxAlternatives
        let limit = min(SamplingResults.maxAlternatives, model.dimensions.vocabularyCount)
        let alternatives = (0..<min(logprobCount ?? 0, limit)).map { index in
            TokenLogprob(
                token: results.alternativeTokens[first + index], logprob: results.alternativeLogprobs[first + index])
        }
        return TokenSample(
            token: scored ?? results.tokens[row], logprob: results.logprobs[row], topLogprobs: alternatives,
            isFinite: results.isFinite[row], rank: scored == nil ? 0 : Int(results.ranks[row]))
    }
}
