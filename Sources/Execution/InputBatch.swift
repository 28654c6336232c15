// The inputs of one step, in persistent buffers: filled from a SchedulerOutput, uploaded once.
//
// Sequences lie one after another, in the order the scheduler gave them; row i of the batch is token i of the step.

import Models
import Scheduling
import Tensors

/// Host and device copies of a step's inputs, sized once for the largest step.
struct InputBatch {
    private let blockSize: Int
    private let maxBlocksPerSequence: Int

    private var positions: [Int32]
    private var slots: [Int32]
    private var queryStarts: [Int32]
    private var contextLengths: [Int32]
    private var blockTables: [Int32]
    private var sampledRows: [Int32]
    /// [sampled rows] How to sample each, in order.
    private(set) var samplingRows: [SamplingRow] = []

    private let tokensTensor: Tensor
    private let positionsTensor: Tensor
    private let slotsTensor: Tensor
    private let queryStartsTensor: Tensor
    private let contextLengthsTensor: Tensor
    private let blockTablesTensor: Tensor
    private let sampledRowsTensor: Tensor

    init(maxTokens: Int, maxSequences: Int, maxModelLength: Int, blockSize: Int, backend: any Backend)
        throws(BackendError)
    {
        self.blockSize = blockSize
        maxBlocksPerSequence = (maxModelLength + blockSize - 1) / blockSize
        positions = Array(repeating: 0, count: maxTokens)
        slots = Array(repeating: 0, count: maxTokens)
        queryStarts = Array(repeating: 0, count: maxSequences + 1)
        contextLengths = Array(repeating: 0, count: maxSequences)
        blockTables = Array(repeating: 0, count: maxSequences * maxBlocksPerSequence)
        sampledRows = Array(repeating: 0, count: maxSequences)
        samplingRows.reserveCapacity(maxSequences)
        tokensTensor = try backend.allocate([maxTokens], .i32, purpose: "step inputs")
        positionsTensor = try backend.allocate([maxTokens], .i32, purpose: "step inputs")
        slotsTensor = try backend.allocate([maxTokens], .i32, purpose: "step inputs")
        queryStartsTensor = try backend.allocate([maxSequences + 1], .i32, purpose: "step inputs")
        contextLengthsTensor = try backend.allocate([maxSequences], .i32, purpose: "step inputs")
        blockTablesTensor = try backend.allocate([maxSequences, maxBlocksPerSequence], .i32, purpose: "step inputs")
        sampledRowsTensor = try backend.allocate([maxSequences], .i32, purpose: "step inputs")
    }

    /// Fills and uploads the inputs of `output`; the result is valid until the next call.
    mutating func fill(_ output: borrowing SchedulerOutput, backend: any Backend) -> ForwardStep {
        samplingRows.removeAll(keepingCapacity: true)
        var row = 0
        var maxQueryLength = 0
        var maxContextLength = 0
        let sequences = output.sequences
        for (index, sequence) in sequences.enumerated() {
            queryStarts[index] = Int32(row)
            contextLengths[index] = Int32(sequence.contextLength)
            let table = index * maxBlocksPerSequence
            for (offset, block) in output.blocks[sequence.blockRange].enumerated() {
                blockTables[table + offset] = block.rawValue
            }
            for position in sequence.start..<sequence.contextLength {
                positions[row] = Int32(position)
                slots[row] =
                    blockTables[table + position / blockSize] * Int32(blockSize) + Int32(position % blockSize)
                row += 1
            }
            if sequence.samples {
                sampledRows[samplingRows.count] = Int32(row - 1)
                samplingRows.append(SamplingRow(sequence.sampling, position: sequence.samplePosition))
            }
            maxQueryLength = max(maxQueryLength, sequence.tokenRange.count)
            maxContextLength = max(maxContextLength, sequence.contextLength)
        }
        queryStarts[sequences.count] = Int32(row)
        upload(output.tokens, tokenCount: row, sequenceCount: sequences.count, backend: backend)
        return ForwardStep(
            tokens: tokensTensor.prefix(rows: row),
            batch: AttentionBatch(
                tokenCount: row, sequenceCount: sequences.count, maxQueryLength: maxQueryLength,
                maxContextLength: maxContextLength, queryStarts: queryStartsTensor,
                contextLengths: contextLengthsTensor, blockTables: blockTablesTensor, slotMapping: slotsTensor,
                positions: positionsTensor),
            sampledRows: sampledRowsTensor.prefix(rows: samplingRows.count))
    }

    private func upload(_ tokens: [TokenID], tokenCount: Int, sequenceCount: Int, backend: any Backend) {
        backend.upload(tokens, count: tokenCount, to: tokensTensor)
        backend.upload(positions, count: tokenCount, to: positionsTensor)
        backend.upload(slots, count: tokenCount, to: slotsTensor)
        backend.upload(queryStarts, count: sequenceCount + 1, to: queryStartsTensor)
        backend.upload(contextLengths, count: sequenceCount, to: contextLengthsTensor)
        backend.upload(blockTables, count: sequenceCount * maxBlocksPerSequence, to: blockTablesTensor)
        backend.upload(sampledRows, count: samplingRows.count, to: sampledRowsTensor)
    }
}

extension SamplingRow {
    /// The device's view of a request's parameters for the token at `position`.
    fileprivate init(_ parameters: SamplingParameters, position: Int) {
        self.init(
            temperature: parameters.temperature, topP: parameters.topP, topK: parameters.topK, minP: parameters.minP,
            seed: parameters.seed, position: UInt64(position), logprobCount: parameters.logprobCount)
    }
}
