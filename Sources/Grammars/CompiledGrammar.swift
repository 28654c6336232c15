// A grammar made ready for matching: a pushdown automaton over bytes whose procedures are minimal deterministic
// automata. Every state that text can lead to can still end; a grammar without any text is refused.

import Synchronization

/// A compiled constraint. Immutable but for its memory of visited states, which all its matchers share.
package final class CompiledGrammar: Sendable {
    let tables: AutomatonTables
    let limits: GrammarLimits
    /// The empty text matches.
    let matchesEmpty: Bool
    private let currentPool: Mutex<StatePool>

    /// Units of work that compiling took.
    package let work: Int

    /// States of the automaton.
    package var stateCount: Int { tables.stateCount }

    /// Bytes of the automaton's tables.
    package var tableBytes: Int { tables.rows.count * 4 + tables.stateCount * 17 + tables.classes.count }

    /// Compiles `grammar`, or says why it is refused. Takes time in proportion to `limits.work` at most.
    ///
    /// `unwritable` are bytes that the vocabulary cannot spell (`TokenTrie.missingBytes`): texts with them are left
    /// out, so that wherever a matcher stands, some token can follow or the text can end.
    package init(
        _ grammar: Grammar, unwritable: [UInt8] = [], limits: GrammarLimits = GrammarLimits()
    ) throws(GrammarError) {
        var builder = try AutomatonBuilder(grammar, unwritable: ByteSet(unwritable), limits: limits)
        try builder.build()
        var procedures = builder.procedures
        var meter = builder.meter
        matchesEmpty = try LeftRecursion.eliminate(from: &procedures, meter: &meter)
        var automata: [Deterministic] = []
        var states = 0
        var bytes = 0
        for procedure in procedures {
            var automaton = try Determinization.run(procedure, sets: builder.sets, limits: limits, meter: &meter)
            automaton.accepts[0] = false
            states += automaton.stateCount
            bytes += automaton.rows.count * 4
            guard states <= limits.states else {
                throw .overBudget(what: "states of the constraint", value: states, limit: limits.states)
            }
            guard bytes <= limits.tableBytes else {
                throw .overBudget(what: "bytes of the constraint's tables", value: bytes, limit: limits.tableBytes)
            }
            automata.append(automaton)
        }
        let isProductive = try Self.productive(automata, meter: &meter)
        guard isProductive[0] || matchesEmpty else {
            throw .unsatisfiable(
                place: "the rule '\(grammar.rules[grammar.start.index].name)'",
                reason: "no text of any length matches it")
        }
        for index in automata.indices {
            automata[index] = try Minimization.run(automata[index], isProductive: isProductive, meter: &meter)
        }
        tables = try AutomatonTables(Self.called(automata), limits: limits, meter: &meter)
        self.limits = limits
        work = meter.spent
        currentPool = Mutex(StatePool(generation: 0))
    }

    /// Which procedures match any text at all.
    private static func productive(
        _ automata: [Deterministic], meter: inout WorkMeter
    ) throws(GrammarError) -> [Bool] {
        var result = [Bool](repeating: false, count: automata.count)
        let parts = stronglyConnectedParts(automata.map { $0.calls.flatMap { $0.map(\.procedure) } })
        let order = automata.indices.sorted { parts[$0] < parts[$1] }
        var changed = true
        while changed {
            changed = false
            for index in order where !result[index] {
                let automaton = automata[index]
                var found = [Bool](repeating: false, count: automaton.stateCount)
                var waiting = [0]
                found[0] = true
                while let state = waiting.popLast(), !result[index] {
                    try meter.spend(1 + automaton.classCount / 8 + automaton.calls[state].count)
                    result[index] = automaton.accepts[state]
                    let row = automaton.rows[state * automaton.classCount..<(state + 1) * automaton.classCount]
                    let called = automaton.calls[state].filter { result[Int($0.procedure)] }.map(\.target)
                    for target in row + called where target >= 0 && !found[Int(target)] {
                        found[Int(target)] = true
                        waiting.append(Int(target))
                    }
                }
                if result[index] { changed = true }
            }
        }
        return result
    }

    /// The procedures that the first one leads to, renumbered.
    private static func called(_ automata: [Deterministic]) -> [Deterministic] {
        var numbers = [Int32](repeating: -1, count: automata.count)
        var order = [0]
        numbers[0] = 0
        var next = 0
        while next < order.count {
            for calls in automata[order[next]].calls {
                for call in calls where numbers[Int(call.procedure)] < 0 {
                    numbers[Int(call.procedure)] = Int32(order.count)
                    order.append(Int(call.procedure))
                }
            }
            next += 1
        }
        return order.map { index in
            var automaton = automata[index]
            automaton.calls = automaton.calls.map { calls in
                calls.map { Deterministic.Call(procedure: numbers[Int($0.procedure)], target: $0.target) }
            }
            return automaton
        }
    }

    /// The memory of visited states that matchers should use now; a full one is left to those that still hold it.
    func pool() -> StatePool {
        currentPool.withLock { pool in
            if pool.isFull(limits) { pool = StatePool(generation: pool.generation + 1) }
            return pool
        }
    }
}
