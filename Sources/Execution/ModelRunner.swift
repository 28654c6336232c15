// Executes one step: fill the inputs, run the model, sample, read back the chosen tokens.

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

    init(parts: EngineParts, plan: MemoryPlan, limits: SchedulerLimits) throws(BackendError) {
        backend = parts.backend
        model = parts.model
        let dimensions = parts.model.dimensions
        var cache: [KVLayer] = []
        for _ in 0..<dimensions.layerCount {
            cache.append(
                try parts.backend.allocateKVLayer(
                    blockCount: plan.blockCount, kvHeads: dimensions.kvHeadCount, blockSize: plan.blockSize,
                    headDim: dimensions.headDim))
        }
        self.cache = cache
        batch = try InputBatch(
            maxTokens: limits.tokenBudget, maxSequences: limits.maxSequences, maxModelLength: plan.maxModelLength,
            blockSize: plan.blockSize, backend: parts.backend)
        results = SamplingResults(rowCapacity: limits.maxSequences)
    }

    /// Runs `output` and leaves one sample for each sequence that asked for one in `samples`, in order.
    mutating func execute(_ output: borrowing SchedulerOutput, into samples: inout [TokenSample]) throws(BackendError) {
        let step = batch.fill(output, backend: backend)
        let sampledRowCount = batch.samplingRows.count
        let shape = StepShape(
            tokenCount: step.batch.tokenCount, sequenceCount: step.batch.sequenceCount,
            sampledRowCount: sampledRowCount, isDecodeOnly: step.batch.maxQueryLength == 1)
        backend.perform(shape) {
            model.forward(step, cache: cache, backend: backend)
        }
        if sampledRowCount > 0 {
            let logits = model.logits.prefix(rows: sampledRowCount)
            backend.sample(logits, batch.samplingRows)
            try backend.collect(into: &results)
        } else {
            try backend.synchronize()
        }
        samples.removeAll(keepingCapacity: true)
        for (row, parameters) in batch.samplingRows.enumerated() {
            samples.append(sample(row: row, logprobCount: parameters.logprobCount))
        }
    }

    private func sample(row: Int, logprobCount: Int?) -> TokenSample {
        let first = row * SamplingResults.maxAlternatives
        let limit = min(SamplingResults.maxAlternatives, model.dimensions.vocabularyCount)
        let alternatives = (0..<min(logprobCount ?? 0, limit)).map { index in
            TokenLogprob(
                token: results.alternativeTokens[first + index], logprob: results.alternativeLogprobs[first + index])
        }
        return TokenSample(
            token: results.tokens[row], logprob: results.logprobs[row], topLogprobs: alternatives,
            isFinite: results.isFinite[row])
    }
}
