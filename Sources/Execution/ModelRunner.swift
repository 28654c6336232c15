// Executes one step: fill the inputs, run the model, begin to sample; later, read back the chosen tokens.

import Models
import Scheduling
import Tensors

/// The model, its cache and its buffers. Lives on the engine thread.
struct ModelRunner {
    private let backend: any Backend
    private let model: any LanguageModel
    private let cache: [KVLayer]
    private var batch: InputBatch
    private var results: SamplingResults
    /// [block size, 2 × KV heads × head dim] Keys and values of nothing.
    private let zeros: Tensor
    /// [block size] The slots of one block.
    private let scrubSlots: Tensor
    /// What the steps that were begun and not collected computed for those who pool, oldest first.
    private var states: [StepStates?] = []

    init(parts: EngineParts, plan: MemoryPlan, limits: SchedulerLimits) throws(BackendError) {
        backend = parts.backend
        model = parts.model
        let dimensions = parts.model.dimensions
        // One block beyond the pool's, for rows that only fill a step up.
        let scratchCount = parts.backend.padsSteps ? 1 : 0
        var cache: [KVLayer] = []
        for _ in 0..<dimensions.layerCount {
            cache.append(
                try parts.backend.allocateKVLayer(
                    blockCount: plan.blockCount + scratchCount, kvHeads: dimensions.kvHeadCount,
                    blockSize: plan.blockSize, headDim: dimensions.headDim))
        }
        self.cache = cache
        let largest = parts.backend.largestStep(tokens: limits.tokenBudget, sequences: limits.maxSequences)
        batch = try InputBatch(
            largest: largest, maxModelLength: plan.maxModelLength, blockSize: plan.blockSize,
            scratchBlock: plan.blockCount, backend: parts.backend)
        results = SamplingResults(rowCapacity: limits.maxSequences)
        let width = 2 * dimensions.kvHeadCount * dimensions.headDim
        zeros = try backend.allocate([plan.blockSize, width], .f32, purpose: "step inputs")
        backend.upload([Float](repeating: 0, count: plan.blockSize * width), to: zeros)
        scrubSlots = try backend.allocate([plan.blockSize], .i32, purpose: "step inputs")
    }

    /// Whether `begin` returns while the device still works, so that the next step can be planned meanwhile.
    var isAsynchronous: Bool { backend.isAsynchronous }

    /// Hands a step to the device. At most one that was begun before may be uncollected.
    mutating func begin(_ output: borrowing SchedulerOutput, _ constraints: ConstraintWorker) {
        scrub(output.scrubbedBlocks, blockSize: zeros.rowCount)
        let step = batch.fill(output, backend: backend)
        let shape = StepShape(
            tokenCount: step.batch.tokenCount, sequenceCount: step.batch.sequenceCount,
            sampledRowCount: step.sampledRows.rowCount, isDecodeOnly: step.batch.maxQueryLength == 1,
            usesAdapters: step.adapters != nil)
        backend.perform(shape) {
            model.forward(step, cache: cache, backend: backend)
        }
        states.append(StepStates(output, shape, model: model, backend: backend))
        if batch.samplingRows.isEmpty { return }
        // The device, or the forward above, has had this time to itself; now the masks are needed.
        if !constraints.isEmpty { batch.setMasks(of: output, constraints) }
        backend.sample(model.logits.prefix(rows: batch.samplingRows.count), batch.samplingRows)
        if !constraints.isEmpty { batch.dropMasks() }
    }

    /// Clears blocks in which a NaN may stand: attention multiplies what it hides by 0.
    private func scrub(_ blocks: [BlockID], blockSize: Int) {
        let dimensions = model.dimensions
        for block in blocks {
            let first = block.rawValue * Int32(blockSize)
            backend.upload((first..<first + Int32(blockSize)).map { $0 }, count: blockSize, to: scrubSlots)
            for layer in cache {
                backend.storeKV(
                    zeros, keyOffset: 0, valueOffset: dimensions.kvHeadCount * dimensions.headDim,
                    kvHeads: dimensions.kvHeadCount, headDim: dimensions.headDim, slots: scrubSlots, cache: layer)
            }
        }
    }

    /// Waits for the oldest step that was begun, which is `output`. Leaves the samples that it asked for in `samples`,
    /// in order, and one for each scored token of a prompt in `scores`. Returns what it computed for those who pool.
    mutating func collect(
        _ output: borrowing SchedulerOutput, into samples: inout [TokenSample], scores: inout [TokenSample]
    ) throws(BackendError) -> StepStates? {
        let states = self.states.removeFirst()
        samples.removeAll(keepingCapacity: true)
        scores.removeAll(keepingCapacity: true)
        if output.sampleCount + output.scoredTokens.count > 0 {
            try backend.collect(into: &results)
        } else {
            try backend.synchronize()
        }
        var row = 0
        for sequence in output.sequences {
            for token in output.scoredTokens[sequence.scoredRange] {
                scores.append(sample(row: row, logprobCount: sequence.promptLogprobCount, scored: token))
                row += 1
            }
            for _ in 0..<sequence.sampleCount {
                samples.append(sample(row: row, logprobCount: sequence.sampling.logprobCount))
                row += 1
            }
        }
        return states
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
