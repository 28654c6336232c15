// Two regular automata side by side, and regular automata as pieces of larger ones.

enum RegularProduct {
    enum Kept {
        /// What both match.
        case both
        /// What the first matches and the second does not.
        case firstOnly
    }

    /// The smallest automaton of the intersection or difference of two automata without calls.
    static func run(
        _ first: Deterministic, _ second: Deterministic, keeping kept: Kept, limits: GrammarLimits,
        meter: inout WorkMeter
    ) throws(GrammarError) -> Deterministic {
        var partition = ByteClasses()
        for set in first.classSets + second.classSets { partition.separate(set) }
        var result = Deterministic(classes: partition.classes, classCount: partition.count)
        let representatives = (0..<partition.count).map { index in
            UInt8(partition.classes.firstIndex(of: UInt8(index)) ?? 0)
        }
        var numbers: [SIMD2<Int32>: Int32] = [:]
        var pairs: [SIMD2<Int32>] = []
        func number(of pair: SIMD2<Int32>) throws(GrammarError) -> Int32 {
            if let known = numbers[pair] { return known }
            guard pairs.count < limits.states else {
                throw .overBudget(what: "states of the constraint", value: pairs.count + 1, limit: limits.states)
            }
            let new = Int32(pairs.count)
            numbers[pair] = new
            pairs.append(pair)
            return new
        }
        _ = try number(of: SIMD2(0, 0))
        var next = 0
        while next < pairs.count {
            let pair = pairs[next]
            let secondAccepts = pair.y >= 0 && second.accepts[Int(pair.y)]
            result.addState(accepts: first.accepts[Int(pair.x)] && (secondAccepts == (kept == .both)))
            try meter.spend(representatives.count + 4)
            for (index, byte) in representatives.enumerated() {
                let x = first.target(of: Int(pair.x), on: byte)
                let y = pair.y < 0 ? -1 : second.target(of: Int(pair.y), on: byte)
                guard x >= 0, y >= 0 || kept == .firstOnly else { continue }
                result.rows[next * result.classCount + index] = try number(of: SIMD2(x, y))
            }
            next += 1
        }
        return try Minimization.run(result, isProductive: [], meter: &meter)
    }
}

/// A regular automaton in a form that is copied quickly.
struct AutomatonFragment {
    private struct Move {
        let source: Int32
        let set: Int32
        let target: Int32
    }

    let stateCount: Int
    private let accepting: [Int32]
    private let moves: [Move]
    var moveCount: Int { moves.count }

    init(_ automaton: Deterministic, sets: inout ByteSetTable) {
        let classSets = automaton.classSets
        var moves: [Move] = []
        for state in 0..<automaton.stateCount {
            var byTarget: [Int32: ByteSet] = [:]
            for index in 0..<automaton.classCount {
                let target = automaton.rows[state * automaton.classCount + index]
                if target >= 0 { byTarget[target] = (byTarget[target] ?? ByteSet()).union(classSets[index]) }
            }
            for (target, set) in byTarget.sorted(by: { $0.key < $1.key }) {
                moves.append(Move(source: Int32(state), set: sets.index(of: set), target: target))
            }
        }
        stateCount = automaton.stateCount
        self.moves = moves
        accepting = automaton.accepts.indices.filter { automaton.accepts[$0] }.map { Int32($0) }
    }

    /// Appends a copy at `start`; the state where it ends.
    func append(to automaton: inout Nondeterministic, at start: Int32) -> Int32 {
        let base = Int32(automaton.states.count)
        for _ in 0..<stateCount { _ = automaton.addState() }
        automaton.addFree(from: start, to: base)
        for move in moves { automaton.addMove(from: base + move.source, on: move.set, to: base + move.target) }
        if accepting.count == 1 { return base + accepting[0] }
        let end = automaton.addState()
        for state in accepting { automaton.addFree(from: base + state, to: end) }
        return end
    }
}
