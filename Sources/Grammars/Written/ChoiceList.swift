// A list of texts of which one is written.

/// Translates lists of choices.
package enum ChoiceList {
    /// Exactly one of `choices`. An empty list, an empty choice and too many are refused; a choice may occur twice.
    package static func expression(
        _ choices: [String], limits: GrammarLimits = GrammarLimits()
    ) throws(GrammarError) -> Expression {
        guard !choices.isEmpty else { throw .malformed(place: "choice", reason: "it must have at least one text") }
        guard choices.count <= limits.choices else {
            throw .overBudget(what: "texts in choice", value: choices.count, limit: limits.choices)
        }
        let bytes = choices.reduce(0) { $0 + $1.utf8.count }
        guard bytes <= limits.sourceBytes else {
            throw .overBudget(what: "bytes of the texts in choice", value: bytes, limit: limits.sourceBytes)
        }
        if let index = choices.firstIndex(of: "") {
            throw .malformed(place: "choice[\(index)]", reason: "a text to choose cannot be empty")
        }
        return .choice(choices.map { .text($0) })
    }
}
