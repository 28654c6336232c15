// One procedure as a deterministic automaton over bytes and calls, made from the nondeterministic one by the subset
// construction. Bytes that the procedure never tells apart share a column of its table.

/// Rows are dense: `rows[state · classCount + class]` is the next state, or -1. State 0 is where it starts.
struct Deterministic {
    typealias Call = Nondeterministic.Call

    /// The class of each byte.
    var classes: [UInt8]
    var classCount: Int
    var rows: [Int32] = []
    var accepts: [Bool] = []
    /// At most one call of each procedure in each state, in the order of procedures.
    var calls: [[Call]] = []

    var stateCount: Int { accepts.count }

    func target(of state: Int, on byte: UInt8) -> Int32 { rows[state * classCount + Int(classes[Int(byte)])] }

    /// The bytes of each class.
    var classSets: [ByteSet] {
        var sets = [ByteSet](repeating: ByteSet(), count: classCount)
        for byte in UInt8.min...UInt8.max { sets[Int(classes[Int(byte)])].insert(byte) }
        return sets
    }

    mutating func addState(accepts: Bool) {
        self.accepts.append(accepts)
        calls.append([])
        rows.append(contentsOf: repeatElement(-1, count: classCount))
    }
}

/// Cuts the 256 bytes into the classes that `sets` tell apart.
struct ByteClasses {
    private(set) var classes = [UInt8](repeating: 0, count: 256)
    private(set) var count = 1

    mutating func separate(_ set: ByteSet) {
        var inside = [Int](repeating: -1, count: count)
        var outside = inside
        var next = 0
        for byte in 0..<256 {
            let old = Int(classes[byte])
            if set.contains(UInt8(byte)) {
                if inside[old] < 0 {
                    inside[old] = next
                    next += 1
                }
                classes[byte] = UInt8(inside[old])
            } else {
                if outside[old] < 0 {
                    outside[old] = next
                    next += 1
                }
                classes[byte] = UInt8(outside[old])
            }
        }
        count = next
    }
}

/// The subset construction.
struct Determinization {
    private let source: Nondeterministic
    private let limits: GrammarLimits
    private var result: Deterministic
    /// For each byte set in use, the classes it consists of.
    private var classesOfSet: [Int32: [Int]] = [:]
    private var numbers: [[Int32]: Int32] = [:]
    /// The number of the subset that one state alone leads to.
    private var singles: [Int32]
    private var subsets: [[Int32]] = []
    private var marks: [Bool]

    static func run(
        _ source: Nondeterministic, sets: ByteSetTable, limits: GrammarLimits, meter: inout WorkMeter
    ) throws(GrammarError) -> Deterministic {
        var construction = try Determinization(source, sets: sets, limits: limits, meter: &meter)
        return try construction.construct(&meter)
    }

    private init(
        _ source: Nondeterministic, sets: ByteSetTable, limits: GrammarLimits, meter: inout WorkMeter
    ) throws(GrammarError) {
        self.source = source
        self.limits = limits
        marks = [Bool](repeating: false, count: source.states.count)
        singles = [Int32](repeating: -1, count: source.states.count)
        var used: Set<Int32> = []
        for state in source.states { for move in state.moves { used.insert(move.set) } }
        try meter.spend(source.states.count + used.count * 32)
        var partition = ByteClasses()
        for set in used.sorted() { partition.separate(sets.sets[Int(set)]) }
        result = Deterministic(classes: partition.classes, classCount: partition.count)
        let classSets = result.classSets
        for set in used {
            classesOfSet[set] = classSets.indices.filter { !classSets[$0].intersection(sets.sets[Int(set)]).isEmpty }
        }
    }

    private mutating func construct(_ meter: inout WorkMeter) throws(GrammarError) -> Deterministic {
        _ = try number(of: [0], &meter)
        var buckets = [[Int32]](repeating: [], count: result.classCount)
        var next = 0
        while next < subsets.count {
            var used: [Int] = []
            var calls: [Int32: [Int32]] = [:]
            for state in subsets[next] {
                for move in source.states[Int(state)].moves {
                    let classes = classesOfSet[move.set] ?? []
                    try meter.spend(classes.count)
                    for index in classes {
                        if buckets[index].isEmpty { used.append(index) }
                        buckets[index].append(move.target)
                    }
                }
                for call in source.states[Int(state)].calls { calls[call.procedure, default: []].append(call.target) }
            }
            for index in used {
                result.rows[next * result.classCount + index] = try number(of: buckets[index], &meter)
                buckets[index].removeAll(keepingCapacity: true)
            }
            for (procedure, targets) in calls.sorted(by: { $0.key < $1.key }) {
                let target = try number(of: targets, &meter)
                result.calls[next].append(Deterministic.Call(procedure: procedure, target: target))
            }
            subsets[next] = []
            next += 1
        }
        return result
    }

    /// The state for what `targets` lead to, made if it is new.
    private mutating func number(of targets: [Int32], _ meter: inout WorkMeter) throws(GrammarError) -> Int32 {
        if targets.count == 1, singles[Int(targets[0])] >= 0 { return singles[Int(targets[0])] }
        var kernel = targets
        if targets.count > 1 {
            kernel.sort()
            var unique = 1
            for index in 1..<kernel.count where kernel[index] != kernel[unique - 1] {
                kernel[unique] = kernel[index]
                unique += 1
            }
            kernel.removeLast(kernel.count - unique)
            try meter.spend(targets.count)
            if kernel.count == 1, singles[Int(kernel[0])] >= 0 { return singles[Int(kernel[0])] }
        }
        if kernel.count > 1, let known = numbers[kernel] { return known }
        let subset = source.closure(of: kernel, marks: &marks)
        try meter.spend(4 + subset.count + result.classCount / 8)
        let number = Int32(subsets.count)
        guard subsets.count < limits.states else {
            throw .overBudget(what: "states of the constraint", value: subsets.count + 1, limit: limits.states)
        }
        subsets.append(subset)
        result.addState(accepts: subset.contains(source.end))
        guard result.rows.count * 4 <= limits.tableBytes else {
            throw .overBudget(
                what: "bytes of the constraint's tables", value: result.rows.count * 4, limit: limits.tableBytes)
        }
        if kernel.count == 1 { singles[Int(kernel[0])] = number } else { numbers[kernel] = number }
        return number
    }
}
