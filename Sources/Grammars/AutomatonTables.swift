// The automaton that text is matched with: all procedures' states in one numbering, as flat arrays.

struct AutomatonTables: Sendable {
    /// What kind of state it is, as bits.
    enum Kind {
        /// The procedure may end here.
        static let accepts: UInt8 = 1
        static let moves: UInt8 = 2
        static let calls: UInt8 = 4
    }

    struct Call {
        let procedure: Int32
        let returnState: Int32
        /// The caller has nothing left to do but to end: its own return is not kept.
        let isLast: Bool
    }

    /// Next states, by `rowStarts[state] + classes[classStarts[state] + byte]`; -1 is none.
    private(set) var rows: [Int32] = []
    private(set) var rowStarts: [Int32] = []
    private(set) var classes: [UInt8] = []
    private(set) var classStarts: [Int32] = []
    private(set) var kinds: [UInt8] = []
    /// The least number of returns that must be kept at once from a state until its procedure ends.
    private(set) var heights: [Int32] = []
    /// The calls of state s are `calls[callStarts[s]..<callStarts[s + 1]]`.
    private(set) var calls: [Call] = []
    private(set) var callStarts: [Int32] = [0]
    private(set) var procedureStarts: [Int32] = []
    /// The order in which procedures are entered when none has read anything: callers come first.
    private(set) var procedureRanks: [Int32] = []
    private(set) var maxHeight: Int32 = 0
    /// The most procedures that can be entered before a byte is read.
    private(set) var maxLeftCalls: Int32 = 1

    var stateCount: Int { kinds.count }

    @inline(__always) func next(_ state: Int32, _ byte: UInt8) -> Int32 {
        let column = classes[Int(classStarts[Int(state)]) + Int(byte)]
        return rows[Int(rowStarts[Int(state)]) + Int(column)]
    }

    /// Reads on in the same procedure, with nothing to call and nowhere to end.
    @inline(__always) func isPlain(_ state: Int32) -> Bool { kinds[Int(state)] == Kind.moves }

    /// Lays out `procedures`, of which the first is the start.
    init(_ procedures: [Deterministic], limits: GrammarLimits, meter: inout WorkMeter) throws(GrammarError) {
        for procedure in procedures {
            let base = Int32(stateCount)
            procedureStarts.append(base)
            let classStart = Int32(classes.count)
            classes += procedure.classes
            for state in 0..<procedure.stateCount {
                rowStarts.append(Int32(rows.count))
                classStarts.append(classStart)
                var kind: UInt8 = procedure.accepts[state] ? Kind.accepts : 0
                for index in 0..<procedure.classCount {
                    let target = procedure.rows[state * procedure.classCount + index]
                    if target >= 0 { kind |= Kind.moves }
                    rows.append(target < 0 ? -1 : target + base)
                }
                for call in procedure.calls[state] {
                    kind |= Kind.calls
                    calls.append(
                        Call(
                            procedure: call.procedure, returnState: call.target + base,
                            isLast: Self.isOnlyEnd(procedure, Int(call.target))))
                }
                callStarts.append(Int32(calls.count))
                kinds.append(kind)
            }
        }
        try setRanks()
        try setHeights(limits: limits, meter: &meter)
    }

    private static func isOnlyEnd(_ procedure: Deterministic, _ state: Int) -> Bool {
        let row = procedure.rows[state * procedure.classCount..<(state + 1) * procedure.classCount]
        return procedure.accepts[state] && procedure.calls[state].isEmpty && row.allSatisfy { $0 < 0 }
    }

    private mutating func setRanks() throws(GrammarError) {
        let leftCalls = procedureStarts.map { start in
            calls[Int(callStarts[Int(start)])..<Int(callStarts[Int(start) + 1])].map(\.procedure)
        }
        let parts = stronglyConnectedParts(leftCalls)
        guard Set(parts).count == parts.count else {
            throw .unsupported(place: "the grammar", what: "a rule that begins with itself in this way")
        }
        procedureRanks = parts.map { Int32(parts.count) - 1 - $0 }
        var longest = [Int32](repeating: 1, count: parts.count)
        for index in parts.indices.sorted(by: { parts[$0] < parts[$1] }) {
            for callee in leftCalls[index] { longest[index] = max(longest[index], longest[Int(callee)] + 1) }
        }
        maxLeftCalls = longest.max() ?? 1
    }

    /// Heights grow from zero at ends until nothing changes.
    private mutating func setHeights(limits: GrammarLimits, meter: inout WorkMeter) throws(GrammarError) {
        let unknown = Int32.max / 2
        heights = kinds.map { $0 & Kind.accepts != 0 ? 0 : unknown }
        var changed = true
        while changed {
            changed = false
            for state in (0..<stateCount).reversed() where heights[state] > 0 {
                let width = state + 1 < stateCount ? Int(rowStarts[state + 1]) : rows.count
                let row = Int(rowStarts[state])..<width
                try meter.spend(1 + row.count / 8)
                var least = heights[state]
                for target in rows[row] where target >= 0 { least = min(least, heights[Int(target)]) }
                for call in calls[Int(callStarts[state])..<Int(callStarts[state + 1])] {
                    let inside = heights[Int(procedureStarts[Int(call.procedure)])] + (call.isLast ? 0 : 1)
                    least = min(least, max(inside, heights[Int(call.returnState)]))
                }
                if least < heights[state] {
                    heights[state] = least
                    changed = true
                }
            }
        }
        // Only the start of a grammar of the empty text alone leads nowhere.
        for state in 0..<stateCount where kinds[state] == 0 { heights[state] = 0 }
        maxHeight = heights.max() ?? 0
        guard maxHeight <= limits.stackDepth / 2 else {
            throw .overBudget(
                what: "rules inside one another that the grammar demands", value: Int(maxHeight),
                limit: limits.stackDepth / 2)
        }
    }
}
