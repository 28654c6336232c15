// Why a constraint is refused, before anything is generated. The sentence names the place and, for a limit, both
// numbers.

/// A constraint that cannot be guaranteed.
package enum GrammarError: Error, Equatable, CustomStringConvertible {
    /// The source does not follow the rules of its language. `place` is a JSON pointer or a line and column.
    case malformed(place: String, reason: String)
    /// Well-formed, but outside of what can be guaranteed, for example the keyword `not`.
    case unsupported(place: String, what: String)
    /// Nothing satisfies it.
    case unsatisfiable(place: String, reason: String)
    /// It costs more than one request may.
    case overBudget(what: String, value: Int, limit: Int)

    package var description: String {
        switch self {
        case .malformed(let place, let reason): "\(place): \(reason)"
        case .unsupported(let place, let what): "\(place): \(what) is not supported"
        case .unsatisfiable(let place, let reason): "\(place): nothing can satisfy this: \(reason)"
        case .overBudget(let what, let value, let limit): "\(what): \(value) is more than the limit of \(limit)"
        }
    }
}
