// Rewrites procedures so that every call consumes a byte before it can come back to itself: empty matches of a called
// procedure become free moves at the caller, and procedures that call themselves before anything else are turned
// inside out (the left-corner transform), so that what they begin with is read first and what it was the beginning of
// is decided afterwards.

enum LeftRecursion {
    /// Rewrites all procedures. The language of a call is then its procedure's without the empty text; whether the
    /// first procedure also matches the empty text is returned.
    static func eliminate(
        from procedures: inout [Nondeterministic], meter: inout WorkMeter
    ) throws(GrammarError) -> Bool {
        let isNullable = try nullable(procedures, meter: &meter)
        for index in procedures.indices {
            for state in procedures[index].states.indices {
                for call in procedures[index].states[state].calls where isNullable[Int(call.procedure)] {
                    procedures[index].addFree(from: Int32(state), to: call.target)
                }
            }
        }
        var leftCalls: [[Int32]] = []
        for procedure in procedures {
            var marks = [Bool](repeating: false, count: procedure.states.count)
            let first = procedure.closure(of: [0], marks: &marks)
            try meter.spend(marks.count / 8 + first.count)
            leftCalls.append(
                Set(first.flatMap { procedure.states[Int($0)].calls.map(\.procedure) }).sorted())
        }
        let parts = stronglyConnectedParts(leftCalls)
        var members: [Int32: [Int]] = [:]
        for (index, part) in parts.enumerated() { members[part, default: []].append(index) }
        let original = procedures
        for (_, group) in members.sorted(by: { $0.key < $1.key }) {
            guard group.count > 1 || leftCalls[group[0]].contains(Int32(group[0])) else { continue }
            for index in group {
                procedures[index] = try turned(index, group: group, original, meter: &meter)
            }
        }
        return isNullable[0]
    }

    /// Which procedures match the empty text.
    private static func nullable(
        _ procedures: [Nondeterministic], meter: inout WorkMeter
    ) throws(GrammarError) -> [Bool] {
        var result = [Bool](repeating: false, count: procedures.count)
        let calls = procedures.map { procedure in
            Set(procedure.states.flatMap { $0.calls.map(\.procedure) }).sorted()
        }
        let parts = stronglyConnectedParts(calls)
        let order = procedures.indices.sorted { parts[$0] < parts[$1] }
        var changed = true
        while changed {
            changed = false
            for index in order where !result[index] {
                var found = [Bool](repeating: false, count: procedures[index].states.count)
                var waiting = [0]
                found[0] = true
                while let state = waiting.popLast() {
                    let free = procedures[index].states[state].free
                    let called = procedures[index].states[state].calls.filter { result[Int($0.procedure)] }
                    try meter.spend(1 + free.count + called.count)
                    for target in free + called.map(\.target) where !found[Int(target)] {
                        found[Int(target)] = true
                        waiting.append(Int(target))
                    }
                }
                try meter.spend(found.count / 16 + 1)
                if found[Int(procedures[index].end)] {
                    result[index] = true
                    changed = true
                }
            }
        }
        return result
    }

    /// The procedure `index`, one of a `group` that calls itself first, turned inside out: it holds a copy of each
    /// member's body and starts with what any of them can start with outside of the group; where a member's body ends,
    /// it goes on wherever that member was a beginning. Only where `index` itself ends may it return.
    private static func turned(
        _ index: Int, group: [Int], _ procedures: [Nondeterministic], meter: inout WorkMeter
    ) throws(GrammarError) -> Nondeterministic {
        var result = Nondeterministic()
        var bases: [Int: Int32] = [:]
        for member in group {
            bases[member] = Int32(result.states.count)
            let base = Int32(result.states.count)
            try meter.spend(procedures[member].states.count * 4)
            for state in procedures[member].states {
                result.states.append(
                    Nondeterministic.State(
                        free: state.free.map { $0 + base },
                        moves: state.moves.map { Nondeterministic.Move(set: $0.set, target: $0.target + base) },
                        calls: state.calls.map {
                            Nondeterministic.Call(procedure: $0.procedure, target: $0.target + base)
                        }))
            }
        }
        for member in group {
            let source = procedures[member]
            var marks = [Bool](repeating: false, count: source.states.count)
            guard let base = bases[member] else { continue }
            for state in source.closure(of: [0], marks: &marks) {
                try meter.spend(1 + source.states[Int(state)].moves.count + source.states[Int(state)].calls.count)
                for move in source.states[Int(state)].moves {
                    result.addMove(from: 0, on: move.set, to: move.target + base)
                }
                for call in source.states[Int(state)].calls {
                    if let callee = bases[Int(call.procedure)] {
                        let end = procedures[Int(call.procedure)].end + callee
                        result.addFree(from: end, to: call.target + base)
                    } else {
                        result.addCall(from: 0, of: call.procedure, to: call.target + base)
                    }
                }
            }
        }
        if let base = bases[index] { result.end = procedures[index].end + base }
        return result
    }
}
