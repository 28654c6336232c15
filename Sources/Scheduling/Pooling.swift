// Requests that are read and not answered: what the model makes of the prompt is reduced to one vector.
//
// To the scheduler such a request is one that ends where others sample their first token. It says which rows of a step
// are pooled; what is done with them is the runner's business.

/// Which of a prompt's states make up its vector.
package enum Pooling: Sendable, Equatable {
    /// That of the last token, which alone has seen the whole prompt.
    case lastToken
    /// The mean of all. Such a prompt takes nothing from the prefix cache before its states were all seen, because the
    /// states of what is found there are not kept.
    case mean
}

extension SequenceState {
    /// Whether prompt tokens remain whose states are wanted.
    var hasUnpooledTokens: Bool { pooling == .mean && pooledTokenCount < promptTokenCount }

    /// Rows of a step, of those in `rows` at positions from `start` on, whose states are pooled. A preempted prompt is
    /// computed again, but not pooled again.
    func rowsToPool(_ rows: Range<Int>, start: Int, samples: Bool) -> Range<Int> {
        switch pooling {
        case nil: return rows.lowerBound..<rows.lowerBound
        case .lastToken: return (samples ? rows.upperBound - 1 : rows.upperBound)..<rows.upperBound
        case .mean:
            let first = min(rows.upperBound, rows.lowerBound + max(0, pooledTokenCount - start))
            return first..<rows.upperBound
        }
    }
}
