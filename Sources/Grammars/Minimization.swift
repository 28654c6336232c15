// Merges the states of a deterministic automaton that no text tells apart, by the refinement of two partitions, one of
// states and one of transitions (A. Valmari, "Fast brief practical DFA minimization", 2012): O(m log m) in the number
// of transitions that exist. States that cannot be reached or cannot end are gone afterwards.

/// A partition that splits its parts by marked elements.
private struct RefinablePartition {
    private(set) var count: Int
    private var elements: [Int32]
    private var places: [Int32]
    private(set) var partOf: [Int32]
    private(set) var first: [Int32]
    private(set) var past: [Int32]
    private var marked: [Int32]
    private var touched: [Int32] = []

    /// Neighbours with equal labels form a part. `labels` must be sorted.
    init(labels: [Int32]) {
        elements = (0..<Int32(labels.count)).map { $0 }
        places = elements
        partOf = []
        first = []
        past = []
        for index in labels.indices {
            if index == 0 || labels[index] != labels[index - 1] {
                first.append(Int32(index))
                past.append(Int32(index))
            }
            past[past.count - 1] = Int32(index + 1)
            partOf.append(Int32(first.count - 1))
        }
        count = first.count
        marked = [Int32](repeating: 0, count: first.count)
    }

    func element(_ place: Int32) -> Int { Int(elements[Int(place)]) }

    mutating func mark(_ element: Int) {
        let part = Int(partOf[element])
        let place = Int(places[element])
        let destination = Int(first[part] + marked[part])
        elements[place] = elements[destination]
        places[Int(elements[place])] = Int32(place)
        elements[destination] = Int32(element)
        places[element] = Int32(destination)
        if marked[part] == 0 { touched.append(Int32(part)) }
        marked[part] += 1
    }

    mutating func split() {
        while let touchedPart = touched.popLast() {
            let part = Int(touchedPart)
            let middle = first[part] + marked[part]
            if middle == past[part] {
                marked[part] = 0
                continue
            }
            if marked[part] <= past[part] - middle {
                first.append(first[part])
                past.append(middle)
                first[part] = middle
            } else {
                first.append(middle)
                past.append(past[part])
                past[part] = middle
            }
            marked[part] = 0
            marked.append(0)
            for place in first[count]..<past[count] { partOf[Int(elements[Int(place)])] = Int32(count) }
            count += 1
        }
    }
}

private struct Transition {
    let source: Int32
    let target: Int32
    /// A class, or the number of classes plus a procedure.
    let label: Int32
}

enum Minimization {
    /// The smallest automaton with the language of `source`, where calls of procedures that match nothing are left
    /// out. Without any text it is one state that leads nowhere.
    static func run(
        _ source: Deterministic, isProductive: [Bool], meter: inout WorkMeter
    ) throws(GrammarError) -> Deterministic {
        var transitions = usable(source, isProductive: isProductive)
        try meter.spend(source.rows.count / 8 + transitions.count * 4)
        let isLive = live(source, transitions)
        guard source.stateCount > 0, isLive[0] else {
            var empty = Deterministic(classes: [UInt8](repeating: 0, count: 256), classCount: 1)
            empty.addState(accepts: false)
            return empty
        }
        transitions.removeAll { !isLive[Int($0.source)] || !isLive[Int($0.target)] }
        let parts = refined(source, transitions, isLive)
        return merged(source, transitions, parts)
    }

    /// All transitions, in the order of labels.
    private static func usable(_ source: Deterministic, isProductive: [Bool]) -> [Transition] {
        var result: [Transition] = []
        for label in 0..<source.classCount {
            for state in 0..<source.stateCount {
                let target = source.rows[state * source.classCount + label]
                if target >= 0 {
                    result.append(Transition(source: Int32(state), target: target, label: Int32(label)))
                }
            }
        }
        var calls: [Transition] = []
        for (state, stateCalls) in source.calls.enumerated() {
            for call in stateCalls where isProductive[Int(call.procedure)] {
                let label = Int32(source.classCount) + call.procedure
                calls.append(Transition(source: Int32(state), target: call.target, label: label))
            }
        }
        return result + calls.sorted { $0.label < $1.label }
    }

    /// Which states are reached from the start and lead to an end.
    private static func live(_ source: Deterministic, _ transitions: [Transition]) -> [Bool] {
        guard source.stateCount > 0 else { return [] }
        let forward = reached(from: [0], transitions.map { ($0.source, $0.target) }, source.stateCount)
        let ends = source.accepts.indices.filter { source.accepts[$0] }
        let backward = reached(from: ends, transitions.map { ($0.target, $0.source) }, source.stateCount)
        return zip(forward, backward).map { $0 && $1 }
    }

    private static func reached(from roots: [Int], _ edges: [(Int32, Int32)], _ count: Int) -> [Bool] {
        var starts = [Int32](repeating: 0, count: count + 1)
        for edge in edges { starts[Int(edge.0) + 1] += 1 }
        for index in 0..<count { starts[index + 1] += starts[index] }
        var fill = starts
        var targets = [Int32](repeating: 0, count: edges.count)
        for edge in edges {
            targets[Int(fill[Int(edge.0)])] = edge.1
            fill[Int(edge.0)] += 1
        }
        var found = [Bool](repeating: false, count: count)
        var waiting: [Int] = []
        for root in roots where !found[root] {
            found[root] = true
            waiting.append(root)
        }
        while let state = waiting.popLast() {
            for index in starts[state]..<starts[state + 1] where !found[Int(targets[Int(index)])] {
                found[Int(targets[Int(index)])] = true
                waiting.append(Int(targets[Int(index)]))
            }
        }
        return found
    }

    /// The part of each state; states that are not live share parts with nobody that matters.
    private static func refined(_ source: Deterministic, _ transitions: [Transition], _ isLive: [Bool]) -> [Int32] {
        var states = RefinablePartition(labels: [Int32](repeating: 0, count: source.stateCount))
        for state in 0..<source.stateCount where source.accepts[state] && isLive[state] { states.mark(state) }
        states.split()
        for state in 0..<source.stateCount where !isLive[state] { states.mark(state) }
        states.split()
        var cords = RefinablePartition(labels: transitions.map(\.label))
        var starts = [Int32](repeating: 0, count: source.stateCount + 1)
        for transition in transitions { starts[Int(transition.target) + 1] += 1 }
        for index in 0..<source.stateCount { starts[index + 1] += starts[index] }
        var fill = starts
        var incoming = [Int32](repeating: 0, count: transitions.count)
        for (index, transition) in transitions.enumerated() {
            incoming[Int(fill[Int(transition.target)])] = Int32(index)
            fill[Int(transition.target)] += 1
        }
        var block = 0
        var cord = 0
        while cord < cords.count {
            for place in cords.first[cord]..<cords.past[cord] {
                states.mark(Int(transitions[cords.element(place)].source))
            }
            states.split()
            cord += 1
            while block < states.count {
                for place in states.first[block]..<states.past[block] {
                    let state = states.element(place)
                    for index in starts[state]..<starts[state + 1] { cords.mark(Int(incoming[Int(index)])) }
                }
                cords.split()
                block += 1
            }
        }
        return states.partOf
    }

    /// One state for each part, numbered from the start in the order in which they are found.
    private static func merged(
        _ source: Deterministic, _ transitions: [Transition], _ parts: [Int32]
    ) -> Deterministic {
        var bySource = [[Transition]](repeating: [], count: source.stateCount)
        for transition in transitions { bySource[Int(transition.source)].append(transition) }
        var numbers: [Int32: Int32] = [:]
        var members: [Int] = []
        var result = Deterministic(classes: source.classes, classCount: source.classCount)
        func number(of state: Int32) -> Int32 {
            let part = parts[Int(state)]
            if let known = numbers[part] { return known }
            let new = Int32(members.count)
            numbers[part] = new
            members.append(Int(state))
            return new
        }
        _ = number(of: 0)
        var next = 0
        while next < members.count {
            result.addState(accepts: source.accepts[members[next]])
            for transition in bySource[members[next]] {
                let target = number(of: transition.target)
                if transition.label < source.classCount {
                    result.rows[next * result.classCount + Int(transition.label)] = target
                } else {
                    let procedure = transition.label - Int32(source.classCount)
                    result.calls[next].append(Deterministic.Call(procedure: procedure, target: target))
                }
            }
            next += 1
        }
        return result
    }
}
