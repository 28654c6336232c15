// Turns the expressions of a grammar into nondeterministic automata, one for each rule that stays a procedure. Small
// rules are written in place; large bounded repetitions become procedures of their own, blocks that call blocks, so
// that a bound of a million costs hundreds of states and not millions.

struct AutomatonBuilder {
    /// A rule up to this weight is written in place. Larger ones stay procedures: all places that use them then share
    /// one set of states, and with it one set of token masks.
    private static let inlineWeight = 10
    /// A repetition that would take more states than this is cut into blocks.
    private static let repetitionStates = 4_096
    /// Copies in one block.
    private static let blockCount = 256

    private enum Body {
        case rule(Int)
        case exactly(Expression, Int)
        case calls(Int32, Int)
        case expression(Expression)
    }

    private let grammar: Grammar
    private let limits: GrammarLimits
    private let shape: GrammarShape
    var meter: WorkMeter
    var sets: ByteSetTable
    /// The procedures in the order in which they were asked for; the first is the start rule.
    private(set) var procedures: [Nondeterministic] = []
    private var bodies: [Body] = []
    private var procedureOfRule: [Int32?]
    private var fragments: [[ClosedRange<Unicode.Scalar>]: AutomatonFragment] = [:]
    private var stateCount = 0

    init(_ grammar: Grammar, unwritable: ByteSet, limits: GrammarLimits) throws(GrammarError) {
        self.grammar = grammar
        sets = ByteSetTable(unwritable: unwritable)
        self.limits = limits
        meter = WorkMeter(limit: limits.work)
        shape = try GrammarShape(grammar, limits: limits, meter: &meter)
        procedureOfRule = [Int32?](repeating: nil, count: grammar.rules.count)
    }

    /// Builds the start rule and all that it calls.
    mutating func build() throws(GrammarError) {
        _ = procedure(of: grammar.start.index)
        while procedures.count < bodies.count {
            var automaton = Nondeterministic()
            switch bodies[procedures.count] {
            case .rule(let rule):
                automaton.end = try append(grammar.rules[rule].body, to: &automaton, at: 0, depth: 0, regular: false)
            case .expression(let body):
                automaton.end = try append(body, to: &automaton, at: 0, depth: 0, regular: false)
            case .exactly(let body, let count):
                automaton.end = try appendCopies(of: body, count, to: &automaton, at: 0, depth: 0)
            case .calls(let callee, let count):
                var state: Int32 = 0
                for _ in 0..<count { state = try appendCall(callee, to: &automaton, at: state) }
                automaton.end = state
            }
            procedures.append(automaton)
        }
    }

    private mutating func procedure(of rule: Int) -> Int32 {
        if let known = procedureOfRule[rule] { return known }
        let new = procedure(.rule(rule))
        procedureOfRule[rule] = new
        return new
    }

    private mutating func procedure(_ body: Body) -> Int32 {
        bodies.append(body)
        return Int32(bodies.count - 1)
    }

    private mutating func newState(_ automaton: inout Nondeterministic) throws(GrammarError) -> Int32 {
        try meter.spend(4)
        return automaton.addState()
    }

    /// Appends `expression` at state `start`, into which nothing is ever led back; the state where it ends.
    /// Recursion is bounded by `limits.expressionDepth`.
    private mutating func append(
        _ expression: Expression, to automaton: inout Nondeterministic, at start: Int32, depth: Int, regular: Bool
    ) throws(GrammarError) -> Int32 {
        try meter.spend(1)
        switch expression {
        case .empty: return start
        case .nothing: return try newState(&automaton)
        case .bytes(let bytes):
            var state = start
            for byte in bytes { state = try appendMove(ByteSet(CollectionOfOne(byte)), to: &automaton, at: state) }
            return state
        case .byte(let set): return try appendMove(set, to: &automaton, at: start)
        case .scalar(let ranges): return try embed(try fragment(of: ranges), in: &automaton, at: start)
        case .sequence(let parts):
            var state = start
            for part in parts {
                state = try append(part, to: &automaton, at: state, depth: depth + 1, regular: regular)
            }
            return state
        case .choice(let parts):
            let end = try newState(&automaton)
            for part in parts {
                let partEnd = try append(part, to: &automaton, at: start, depth: depth + 1, regular: regular)
                automaton.addFree(from: partEnd, to: end)
            }
            return end
        case .listing(let elements, let separator):
            return try appendListing(
                elements, separator, to: &automaton, at: start, depth: depth + 1, regular: regular)
        case .repetition(let body, let least, let most):
            return try appendRepetition(
                body, least, most, to: &automaton, at: start, depth: depth + 1, regular: regular)
        case .rule(let rule):
            return try appendRule(rule.index, to: &automaton, at: start, depth: depth, regular: regular)
        case .intersection(let first, let second):
            let product = try RegularProduct.run(
                try regularAutomaton(first, depth: depth + 1), try regularAutomaton(second, depth: depth + 1),
                keeping: .both, limits: limits, meter: &meter)
            return try embed(AutomatonFragment(product, sets: &sets), in: &automaton, at: start)
        case .difference(let first, let second):
            let product = try RegularProduct.run(
                try regularAutomaton(first, depth: depth + 1), try regularAutomaton(second, depth: depth + 1),
                keeping: .firstOnly, limits: limits, meter: &meter)
            return try embed(AutomatonFragment(product, sets: &sets), in: &automaton, at: start)
        }
    }

    /// One state before each element, from which it or a later one is chosen: whatever came before, after the
    /// separator there is one place and not one for each element that may follow.
    private mutating func appendListing(
        _ elements: [Expression.Element], _ separator: Expression, to automaton: inout Nondeterministic,
        at start: Int32, depth: Int, regular: Bool
    ) throws(GrammarError) -> Int32 {
        let end = try newState(&automaton)
        let lastRequired = elements.lastIndex(where: \.isRequired) ?? 0
        var choice = try newState(&automaton)
        automaton.addFree(from: start, to: choice)
        for (index, element) in elements.enumerated() {
            let next = try newState(&automaton)
            let elementEnd = try append(
                element.expression, to: &automaton, at: choice, depth: depth, regular: regular)
            if !element.isRequired { automaton.addFree(from: choice, to: next) }
            if index >= lastRequired { automaton.addFree(from: elementEnd, to: end) }
            if index + 1 < elements.count {
                let separatorEnd = try append(
                    separator, to: &automaton, at: elementEnd, depth: depth, regular: regular)
                automaton.addFree(from: separatorEnd, to: next)
            }
            choice = next
        }
        return end
    }

    private mutating func appendMove(
        _ set: ByteSet, to automaton: inout Nondeterministic, at state: Int32
    ) throws(GrammarError) -> Int32 {
        let next = try newState(&automaton)
        if !set.isEmpty { automaton.addMove(from: state, on: sets.index(of: set), to: next) }
        return next
    }

    private mutating func appendCall(
        _ procedure: Int32, to automaton: inout Nondeterministic, at state: Int32
    ) throws(GrammarError) -> Int32 {
        let next = try newState(&automaton)
        automaton.addCall(from: state, of: procedure, to: next)
        return next
    }

    private mutating func appendRule(
        _ rule: Int, to automaton: inout Nondeterministic, at start: Int32, depth: Int, regular: Bool
    ) throws(GrammarError) -> Int32 {
        let isRecursive = shape.isRecursive[rule]
        if regular {
            guard !isRecursive else {
                throw .unsupported(
                    place: "the rule '\(grammar.rules[rule].name)'",
                    what: "a rule that refers to itself inside of "
                        + "an intersection or difference")
            }
            guard depth < limits.expressionDepth else {
                throw .overBudget(what: "rules inside one another", value: depth + 1, limit: limits.expressionDepth)
            }
        } else if isRecursive || shape.weights[rule] > Self.inlineWeight || depth >= 64 {
            return try appendCall(procedure(of: rule), to: &automaton, at: start)
        }
        return try append(grammar.rules[rule].body, to: &automaton, at: start, depth: depth + 1, regular: regular)
    }

    // MARK: Repetition

    private mutating func appendRepetition(
        _ body: Expression, _ least: Int, _ most: Int?, to automaton: inout Nondeterministic, at start: Int32,
        depth: Int, regular: Bool
    ) throws(GrammarError) -> Int32 {
        var body = body
        var state = start
        if !regular {
            let weight = max(1, shape.weight(of: body))
            let times = max(least, most ?? 0)
            // A long body that is repeated often is better called than copied.
            if times > 1, weight > 16, !isCall(body), weight > Self.repetitionStates / times {
                return try appendCounted(
                    call: procedure(.expression(body)), least, most, to: &automaton, at: state)
            }
            if times > 2 * Self.blockCount, times > Self.repetitionStates / weight {
                if case .rule(let rule) = body, isCall(body) {
                    return try appendCounted(
                        call: procedure(of: rule.index), least, most, to: &automaton, at: state)
                }
                return try appendBlocks(of: body, least, most, to: &automaton, at: state, depth: depth)
            }
        }
        var prepared: AutomatonFragment?
        if max(least, most ?? 0) > 4, !shape.mentionsRule(body) {
            let regularBody = try regularAutomaton(body, depth: depth)
            prepared = AutomatonFragment(regularBody, sets: &sets)
            body = .empty
        }
        func copy(
            _ builder: inout Self, _ automaton: inout Nondeterministic, _ state: Int32
        ) throws(GrammarError) -> Int32 {
            if let prepared { return try builder.embed(prepared, in: &automaton, at: state) }
            return try builder.append(body, to: &automaton, at: state, depth: depth, regular: regular)
        }
        for _ in 0..<least { state = try copy(&self, &automaton, state) }
        let end = try newState(&automaton)
        automaton.addFree(from: state, to: end)
        guard let most else {
            let loop = try newState(&automaton)
            automaton.addFree(from: state, to: loop)
            let loopEnd = try copy(&self, &automaton, loop)
            automaton.addFree(from: loopEnd, to: loop)
            automaton.addFree(from: loopEnd, to: end)
            return end
        }
        for _ in least..<most {
            state = try copy(&self, &automaton, state)
            automaton.addFree(from: state, to: end)
        }
        return end
    }

    /// Whether `body` becomes a call and nothing else.
    private func isCall(_ body: Expression) -> Bool {
        guard case .rule(let rule) = body else { return false }
        return shape.isRecursive[rule.index] || shape.weights[rule.index] > Self.inlineWeight
    }

    /// Between `least` and `most` calls; many are called in blocks.
    private mutating func appendCounted(
        call callee: Int32, _ least: Int, _ most: Int?, to automaton: inout Nondeterministic, at start: Int32
    ) throws(GrammarError) -> Int32 {
        var state = try appendCalls(callee, exactly: least, to: &automaton, at: start)
        guard let most else {
            let loop = try newState(&automaton)
            automaton.addFree(from: state, to: loop)
            automaton.addFree(from: try appendCall(callee, to: &automaton, at: loop), to: loop)
            return loop
        }
        // i blocks and j more, with j less than a block and i·block + j at most `count`.
        let count = most - least
        let end = try newState(&automaton)
        automaton.addFree(from: state, to: end)
        var rest = count
        if count > 2 * Self.blockCount {
            let block = procedure(.calls(callee, Self.blockCount))
            let blocks = count / Self.blockCount
            let full = try appendCalls(block, exactly: blocks, to: &automaton, at: state)
            try appendAtMost(callee, count % Self.blockCount, to: &automaton, at: full, end: end)
            state = try appendCounted(call: block, 0, blocks - 1, to: &automaton, at: state)
            rest = Self.blockCount - 1
        }
        try appendAtMost(callee, rest, to: &automaton, at: state, end: end)
        return end
    }

    private mutating func appendAtMost(
        _ callee: Int32, _ count: Int, to automaton: inout Nondeterministic, at start: Int32, end: Int32
    ) throws(GrammarError) {
        var state = start
        automaton.addFree(from: state, to: end)
        for _ in 0..<count {
            state = try appendCall(callee, to: &automaton, at: state)
            automaton.addFree(from: state, to: end)
        }
    }

    private mutating func appendCalls(
        _ callee: Int32, exactly count: Int, to automaton: inout Nondeterministic, at start: Int32
    ) throws(GrammarError) -> Int32 {
        var state = start
        if count > 2 * Self.blockCount {
            let block = procedure(.calls(callee, Self.blockCount))
            state = try appendCalls(block, exactly: count / Self.blockCount, to: &automaton, at: state)
        }
        let rest = count > 2 * Self.blockCount ? count % Self.blockCount : count
        for _ in 0..<rest { state = try appendCall(callee, to: &automaton, at: state) }
        return state
    }

    /// As `appendCounted`, where the innermost copies are written out: their states stay together, which keeps what
    /// a token may do inside of one procedure.
    private mutating func appendBlocks(
        of body: Expression, _ least: Int, _ most: Int?, to automaton: inout Nondeterministic, at start: Int32,
        depth: Int
    ) throws(GrammarError) -> Int32 {
        let size = Self.blockCount
        let block = procedure(.exactly(body, size))
        var state = try appendCalls(block, exactly: least / size, to: &automaton, at: start)
        state = try appendCopies(of: body, least % size, to: &automaton, at: state, depth: depth)
        guard let most else {
            return try appendRepetition(
                body, 0, nil, to: &automaton, at: state, depth: depth + 1, regular: false)
        }
        let count = most - least
        guard count > size else {
            return try appendRepetition(
                body, 0, count, to: &automaton, at: state, depth: depth + 1, regular: false)
        }
        let full = try appendCalls(block, exactly: count / size, to: &automaton, at: state)
        let fullEnd = try appendRepetition(
            body, 0, count % size, to: &automaton, at: full, depth: depth + 1, regular: false)
        state = try appendCounted(call: block, 0, count / size - 1, to: &automaton, at: state)
        let end = try appendRepetition(
            body, 0, size - 1, to: &automaton, at: state, depth: depth + 1, regular: false)
        automaton.addFree(from: fullEnd, to: end)
        return end
    }

    private mutating func appendCopies(
        of body: Expression, _ count: Int, to automaton: inout Nondeterministic, at start: Int32, depth: Int
    ) throws(GrammarError) -> Int32 {
        guard count > 0 else { return start }
        return try appendRepetition(body, count, count, to: &automaton, at: start, depth: depth + 1, regular: false)
    }

    // MARK: Regular parts

    /// The smallest automaton of an expression without recursive rules.
    private mutating func regularAutomaton(_ body: Expression, depth: Int) throws(GrammarError) -> Deterministic {
        var automaton = Nondeterministic()
        automaton.end = try append(body, to: &automaton, at: 0, depth: depth, regular: true)
        let full = try Determinization.run(automaton, sets: sets, limits: limits, meter: &meter)
        return try Minimization.run(full, isProductive: [], meter: &meter)
    }

    private mutating func fragment(
        of ranges: [ClosedRange<Unicode.Scalar>]
    ) throws(GrammarError) -> AutomatonFragment {
        if let known = fragments[ranges] { return known }
        var automaton = Nondeterministic()
        automaton.end = automaton.addState()
        for sequence in ScalarRanges.sequences(ScalarRanges.normalized(ranges)) {
            var state: Int32 = 0
            for (index, range) in sequence.enumerated() {
                let next = index == sequence.count - 1 ? automaton.end : try newState(&automaton)
                automaton.addMove(from: state, on: sets.index(of: ByteSet(range)), to: next)
                state = next
            }
        }
        let full = try Determinization.run(automaton, sets: sets, limits: limits, meter: &meter)
        let fragment = AutomatonFragment(try Minimization.run(full, isProductive: [], meter: &meter), sets: &sets)
        fragments[ranges] = fragment
        return fragment
    }

    private mutating func embed(
        _ fragment: AutomatonFragment, in automaton: inout Nondeterministic, at start: Int32
    ) throws(GrammarError) -> Int32 {
        try meter.spend(fragment.stateCount * 4 + fragment.moveCount)
        return fragment.append(to: &automaton, at: start)
    }
}
