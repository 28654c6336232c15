// The output reducer: what the model made of a prompt's tokens, on its way to becoming one vector.
//
// States are normalized as the output head would read them and added up in order of position, in doubles, one by one,
// so that the vector depends neither on how the prompt was cut into steps nor on who else was in them.

import Models
import Scheduling
import Tensors

/// The states that one step computed for those who pool. Downloaded when the step was begun: the next one overwrites
/// them.
struct StepStates {
    /// The rows of one sequence.
    struct Share {
        let id: RequestID
        let rows: Range<Int>
    }

    /// [rows, hidden]
    let states: [Float]
    let shares: [Share]
    let norm: OutputNorm

    /// Reads the rows that `output` pools from the model that has just computed them; nil where it pools none. Waits
    /// for the device.
    init?(_ output: borrowing SchedulerOutput, _ step: StepShape, model: any LanguageModel, backend: any Backend) {
        guard output.sequences.contains(where: { !$0.pooledRows.isEmpty }) else { return nil }
        norm = model.outputNorm
        var shares: [Share] = []
        // Where only last tokens are pooled, their rows lie among the few that are sampled from.
        let isOfSampledRows = output.sequences.allSatisfy { $0.pooledRows.isEmpty || $0.pooling == .lastToken }
        var sampledRow = 0
        for sequence in output.sequences {
            sampledRow += sequence.scoredRange.count
            if !sequence.pooledRows.isEmpty {
                shares.append(
                    Share(
                        id: sequence.id,
                        rows: isOfSampledRows ? sampledRow..<sampledRow + 1 : sequence.pooledRows))
            }
            sampledRow += sequence.sampleCount
        }
        self.shares = shares
        states = backend.download(
            isOfSampledRows
                ? model.sampledHidden.prefix(rows: step.sampledRowCount) : model.hidden.prefix(rows: step.tokenCount))
    }
}

/// States of one sequence, normalized and added up.
struct PooledStates {
    /// [hidden]
    private var sum: [Double] = []
    private var count = 0

    /// Adds what a step computed of the sequence.
    mutating func add(_ share: StepStates.Share, of step: StepStates) {
        if sum.isEmpty { sum = Array(repeating: 0, count: step.norm.width) }
        for row in share.rows { step.norm.add(row: row, of: step.states, to: &sum) }
        count += share.rows.count
    }

    /// Their mean; nil where it is not finite.
    var mean: [Float]? {
        let mean = sum.map { Float($0 / Double(count)) }
        return mean.allSatisfy(\.isFinite) ? mean : nil
    }
}
