// When those who are refused should come back: not all at once.
//
// A crowd that is refused within a second and told the same number comes back within a second. So everybody is told a
// number of whole seconds within a range as wide as half the estimate, drawn from a seeded source.

import Tensors

/// Draws times to retry after.
struct RetryJitter: Sendable {
    /// No answer asks for more or less.
    static let bounds = 1...30

    private var source: SplitMix64

    init(seed: UInt64) { source = SplitMix64(state: seed) }

    /// Whole seconds from `estimate` on, up to half as many more, at least one more; near the upper bound the range
    /// ends there instead.
    mutating func spread(_ estimate: Duration) -> Duration {
        let seconds = Int(max(1, min(Double(Self.bounds.upperBound), estimate.seconds)).rounded(.up))
        let width = max(1, seconds / 2)
        let low = min(seconds, Self.bounds.upperBound - width)
        return .seconds(low + Int(source.next() % UInt64(width + 1)))
    }
}

extension EngineError {
    /// The same refusal with another time to come back.
    package func retrying(after change: (Duration) -> Duration) -> EngineError {
        switch self {
        case .overloaded(let resource, let waiting, let limit, let retryAfter):
            .overloaded(resource: resource, waiting: waiting, limit: limit, retryAfter: change(retryAfter))
        case .overShare(let resource, let waiting, let limit, let retryAfter):
            .overShare(resource: resource, waiting: waiting, limit: limit, retryAfter: change(retryAfter))
        case .delayed(let estimate, let limit, let retryAfter):
            .delayed(estimate: estimate, limit: limit, retryAfter: change(retryAfter))
        case .hopeless(let estimate, let remaining, let retryAfter):
            .hopeless(estimate: estimate, remaining: remaining, retryAfter: change(retryAfter))
        default: self
        }
    }
}
