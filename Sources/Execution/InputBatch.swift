// The inputs of one step, in persistent buffers: filled from a SchedulerOutput, uploaded once.
//
// Sequences lie one after another, in the order the scheduler gave them; row i of the batch is token i of the step.
// Then come harmless rows, up to the shape for which the backend has captured a step: they compute token 0 at position
// 0 and write to a block of their own, which nobody else has.

import Models
import Scheduling
import Tensors

extension Backend {
    /// The largest shape that a step of these limits is filled up to.
    func largestStep(tokens: Int, sequences: Int) -> StepShape {
        let mixed = padded(
            StepShape(tokenCount: tokens, sequenceCount: sequences, sampledRowCount: sequences, isDecodeOnly: false))
        let decode = padded(
            StepShape(tokenCount: sequences, sequenceCount: sequences, sampledRowCount: sequences, isDecodeOnly: true))
        return StepShape(
            tokenCount: max(mixed.tokenCount, decode.tokenCount),
            sequenceCount: max(mixed.sequenceCount, decode.sequenceCount),
            sampledRowCount: max(mixed.sampledRowCount, decode.sampledRowCount), isDecodeOnly: false)
    }
}

extension StepCapacity {
    /// Room for every step of an engine with these limits on this backend.
    package init(_ configuration: EngineConfiguration, backend: any Backend) {
        let largest = backend.largestStep(tokens: configuration.tokenBudget, sequences: configuration.maxSequences)
        self.init(
            tokens: largest.tokenCount, sampledRows: largest.sampledRowCount,
            sequenceLength: configuration.maxModelLength, adapters: configuration.adapters)
    }
}

/// Where the keys and values of one group of layers lie: block tables, and the slots of this step's rows.
private struct GroupInputs {
    /// [sequences, maxBlocksPerSequence]
    var blockTables: [Int32]
    /// [tokens]
    var slots: [Int32]
    let blockTablesTensor: Tensor
    let slotsTensor: Tensor
}

/// Host and device copies of a step's inputs, sized once for the largest step.
struct InputBatch {
    private let blockSize: Int
    private let maxBlocksPerSequence: Int
    /// Where the rows that fill a step up write.
    private let scratchBlock: Int32

    private var tokens: [Int32]
    private var positions: [Int32]
    private var queryStarts: [Int32]
    private var contextLengths: [Int32]
    /// [groups] One, or that of the layers that see everything, and then those with a window.
    private var groups: [GroupInputs] = []
    private var sampledRows: [Int32]
    /// [tokens] The place of each row's adapter, or −1; only filled where a row has one.
    private var adapters: [Int32]
    /// [sampled rows] How to sample each, in order; those that fill the step up are not sampled.
    private(set) var samplingRows: [SamplingRow] = []

    private let tokensTensor: Tensor
    private let positionsTensor: Tensor
    private let queryStartsTensor: Tensor
    private let contextLengthsTensor: Tensor
    private let sampledRowsTensor: Tensor
    private let adaptersTensor: Tensor

    /// - Parameters:
    ///   - largest: of the shapes that steps are filled up to.
    ///   - scratchBlock: a block of the cache that the pool does not know.
    ///   - windowedGroupCount: groups of layers with tables of their own, beside the first.
    init(
        largest: StepShape, maxModelLength: Int, blockSize: Int, scratchBlock: Int, windowedGroupCount: Int,
        backend: any Backend
    ) throws(BackendError) {
        let (tokenCount, sequenceCount) = (largest.tokenCount, largest.sequenceCount)
        self.blockSize = blockSize
        self.scratchBlock = Int32(scratchBlock)
        maxBlocksPerSequence = (maxModelLength + blockSize - 1) / blockSize
        tokens = Array(repeating: 0, count: tokenCount)
        positions = Array(repeating: 0, count: tokenCount)
        queryStarts = Array(repeating: 0, count: sequenceCount + 1)
        contextLengths = Array(repeating: 0, count: sequenceCount)
        sampledRows = Array(repeating: 0, count: largest.sampledRowCount)
        adapters = Array(repeating: -1, count: tokenCount)
        samplingRows.reserveCapacity(largest.sampledRowCount)
        func inputs(_ shape: Shape) throws(BackendError) -> Tensor {
            try backend.allocate(shape, .i32, purpose: "step inputs")
        }
        tokensTensor = try inputs([tokenCount])
        positionsTensor = try inputs([tokenCount])
        queryStartsTensor = try inputs([sequenceCount + 1])
        contextLengthsTensor = try inputs([sequenceCount])
        sampledRowsTensor = try inputs([largest.sampledRowCount])
        adaptersTensor = try inputs([tokenCount])
        for _ in 0...windowedGroupCount {
            groups.append(
                GroupInputs(
                    blockTables: Array(repeating: 0, count: sequenceCount * maxBlocksPerSequence),
                    slots: Array(repeating: 0, count: tokenCount),
                    blockTablesTensor: try inputs([sequenceCount, maxBlocksPerSequence]),
                    slotsTensor: try inputs([tokenCount])))
        }
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
            for group in groups.indices { place(sequence, of: output, at: index, row: row, in: group) }
            for position in sequence.start..<sequence.contextLength {
                tokens[row] = output.tokens[row]
                positions[row] = Int32(position)
                row += 1
            }
            let firstScore = sequence.scoredStart - sequence.start + row - sequence.tokenRange.count
            for (offset, token) in output.scoredTokens[sequence.scoredRange].enumerated() {
                sampledRows[samplingRows.count] = Int32(firstScore + offset)
                samplingRows.append(SamplingRow(logprobCount: sequence.promptLogprobCount, scoredToken: token))
            }
            for offset in 0..<sequence.sampleCount {
                sampledRows[samplingRows.count] = Int32(row - sequence.sampleCount + offset)
                samplingRows.append(SamplingRow(sequence, offset: offset))
            }
            maxQueryLength = max(maxQueryLength, sequence.tokenRange.count)
            maxContextLength = max(maxContextLength, sequence.contextLength)
        }
        let used = StepShape(
            tokenCount: row, sequenceCount: sequences.count, sampledRowCount: samplingRows.count,
            isDecodeOnly: maxQueryLength == 1)
        let shape = backend.padded(used)
        precondition(shape == used || backend.padsSteps, "\(used) is filled up to \(shape) without room for it")
        fillUp(used, to: shape)
        upload(shape, backend: backend)
        let hasAdapters = sequences.contains { $0.adapterPlace >= 0 }
        if hasAdapters { fillAdapters(sequences, rows: shape.tokenCount, backend: backend) }
        let batch = AttentionBatch(
            tokenCount: shape.tokenCount, sequenceCount: shape.sequenceCount, maxQueryLength: maxQueryLength,
            maxContextLength: maxContextLength, queryStarts: queryStartsTensor, contextLengths: contextLengthsTensor,
            blockTables: groups[0].blockTablesTensor, slotMapping: groups[0].slotsTensor, positions: positionsTensor)
        let windowed = groups.dropFirst().map { group in
            var windowed = batch
            windowed.blockTables = group.blockTablesTensor
            windowed.slotMapping = group.slotsTensor
            return windowed
        }
        return ForwardStep(
            tokens: tokensTensor.prefix(rows: shape.tokenCount), batch: batch, windowed: windowed,
            sampledRows: sampledRowsTensor.prefix(rows: shape.sampledRowCount),
            adapters: hasAdapters ? adaptersTensor.prefix(rows: shape.tokenCount) : nil)
    }

    /// Gives every row of a sequence its adapter, and those that fill the step up none.
    private mutating func fillAdapters(_ sequences: [ScheduledSequence], rows: Int, backend: any Backend) {
        var row = 0
        for sequence in sequences {
            for _ in sequence.tokenRange {
                adapters[row] = sequence.adapterPlace
                row += 1
            }
        }
        for row in row..<rows { adapters[row] = -1 }
        backend.upload(adapters, count: rows, to: adaptersTensor)
    }

    /// Writes the table of one sequence and the slots of its rows, from `row` on, for one group. Entries behind the
    /// window of a windowed group stay what they were: attention does not look at them.
    private mutating func place(
        _ sequence: ScheduledSequence, of output: borrowing SchedulerOutput, at index: Int, row: Int, in group: Int
    ) {
        let table = index * maxBlocksPerSequence
        if group == 0 {
            for (offset, block) in output.blocks[sequence.blockRange].enumerated() {
                groups[group].blockTables[table + offset] = block.rawValue
            }
        } else {
            var entry = table + sequence.firstWindowedEntry
            let first = sequence.windowedRange.lowerBound + group - 1
            for place in stride(from: first, to: sequence.windowedRange.upperBound, by: groups.count - 1) {
                groups[group].blockTables[entry] = output.blocks[place].rawValue
                entry += 1
            }
        }
        for offset in 0..<sequence.tokenRange.count {
            let position = sequence.start + offset
            groups[group].slots[row + offset] =
                groups[group].blockTables[table + position / blockSize] * Int32(blockSize) + Int32(position % blockSize)
        }
    }

    /// Gives the rows of constrained sequences the masks of their next tokens; waits for those that are late.
    mutating func setMasks(of output: borrowing SchedulerOutput, _ constraints: ConstraintWorker) {
        var row = 0
        for sequence in output.sequences {
            row += sequence.scoredRange.count
            for offset in 0..<sequence.sampleCount {
                samplingRows[row + offset].mask = constraints.mask(of: sequence.id, after: offset)
            }
            row += sequence.sampleCount
        }
    }

    /// Lets go of the masks, so that their memory can be filled again.
    mutating func dropMasks() {
        for row in samplingRows.indices where samplingRows[row].mask != nil { samplingRows[row].mask = nil }
    }

    /// Adds sequences of one row while there are rows left, and then sequences without rows.
    private mutating func fillUp(_ used: StepShape, to shape: StepShape) {
        precondition(
            !shape.isDecodeOnly || shape.tokenCount == shape.sequenceCount,
            "\(shape.tokenCount) tokens for \(shape.sequenceCount) sequences of one each")
        for row in used.tokenCount..<shape.tokenCount {
            tokens[row] = 0
            positions[row] = 0
            for group in groups.indices { groups[group].slots[row] = scratchBlock * Int32(blockSize) }
        }
        for index in used.sequenceCount...shape.sequenceCount {
            let row = used.tokenCount + index - used.sequenceCount
            queryStarts[index] = Int32(min(row, shape.tokenCount))
            guard index < shape.sequenceCount else { break }
            contextLengths[index] = row < shape.tokenCount ? 1 : 0
            for group in groups.indices { groups[group].blockTables[index * maxBlocksPerSequence] = scratchBlock }
        }
        for index in used.sampledRowCount..<shape.sampledRowCount { sampledRows[index] = 0 }
    }

    private func upload(_ shape: StepShape, backend: any Backend) {
        let (tokenCount, sequenceCount) = (shape.tokenCount, shape.sequenceCount)
        backend.upload(tokens, count: tokenCount, to: tokensTensor)
        backend.upload(positions, count: tokenCount, to: positionsTensor)
        backend.upload(queryStarts, count: sequenceCount + 1, to: queryStartsTensor)
        backend.upload(contextLengths, count: sequenceCount, to: contextLengthsTensor)
        for group in groups {
            backend.upload(group.slots, count: tokenCount, to: group.slotsTensor)
            backend.upload(group.blockTables, count: sequenceCount * maxBlocksPerSequence, to: group.blockTablesTensor)
        }
        backend.upload(sampledRows, count: shape.sampledRowCount, to: sampledRowsTensor)
    }
}

extension SamplingRow {
    /// The device's view of how a sequence's next token is chosen, or the one `offset` guesses after it.
    fileprivate init(_ sequence: ScheduledSequence, offset: Int) {
        let parameters = sequence.sampling
        self.init(
            temperature: parameters.temperature, topP: parameters.topP, topK: parameters.topK, minP: parameters.minP,
            seed: parameters.seed, position: UInt64(sequence.samplePosition + offset),
            logprobCount: parameters.logprobCount,
            adjustments: sequence.logitChange.map(LogitAdjustments.init))
    }
}

extension LogitAdjustments {
    /// The device's view of what a request's rules say.
    fileprivate convenience init(_ change: LogitChange) {
        let rules = change.rules
        self.init(
            biases: rules.biases.map { Bias(token: $0.token, bias: $0.bias) }
                + change.bans.map { Bias(token: $0, bias: -.infinity) },
            counts: change.counts.map {
                Count(token: $0.token, generated: $0.generated, isInPrompt: $0.isInPrompt)
            },
            allowedTokens: rules.allowedTokens, presencePenalty: rules.presencePenalty,
            frequencyPenalty: rules.frequencyPenalty, repetitionPenalty: rules.repetitionPenalty)
    }
}
