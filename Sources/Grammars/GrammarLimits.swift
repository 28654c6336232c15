// What one constraint may cost. Every number is a count and none a time, so that the same constraint is accepted or
// refused on every machine.

/// Limits on a constraint's source, on its compilation and on what its use may keep.
package struct GrammarLimits: Sendable {
    /// Bytes of a written grammar.
    package var sourceBytes = 64 << 10
    /// Bytes of one regular expression.
    package var regularExpressionBytes = 4 << 10
    /// The largest number in `{m,n}` of a regular expression or a written grammar.
    package var repetitions = 1_000
    /// Groups inside one another in a regular expression or a written grammar.
    package var groupDepth = 64
    /// Strings in one list of choices.
    package var choices = 4_096
    /// Nodes of all expressions of a grammar.
    package var expressionNodes = 1 << 17
    /// Expressions inside one another, rules written in place included.
    package var expressionDepth = 512
    /// States of the automaton, before and after minimisation.
    package var states = 50_000
    /// Bytes of its transition tables.
    package var tableBytes = 8 << 20
    /// Units of work of compiling; one is about ten nanoseconds.
    package var work = 1 << 22
    /// Unfinished rules inside one another while text is matched. Text that would nest deeper is not allowed.
    package var stackDepth = 512
    /// Entries of the memory of visited states, about forty bytes each.
    package var poolEntries = 1 << 18
    /// Bytes of remembered token masks, for each grammar.
    package var maskBytes = 16 << 20

    package init() {}
}

/// Counts the work of one compilation.
struct WorkMeter {
    private(set) var spent = 0
    let limit: Int

    mutating func spend(_ units: Int) throws(GrammarError) {
        spent += units
        guard spent <= limit else {
            throw .overBudget(what: "units of work to compile the constraint", value: spent, limit: limit)
        }
    }
}
