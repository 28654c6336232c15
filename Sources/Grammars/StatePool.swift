// Where a text may be in its grammar, kept once for all matchers. A set of stacks is a node: the states that may be on
// top, each with the one node of all stacks that may lie below it, and whether the empty stack belongs to it. Equal
// sets are the same node, so a place in a grammar is a number, however ambiguous the grammar is.

import Synchronization

/// The memory of visited states of one grammar; grows until it is full and is then replaced.
final class StatePool: Sendable {
    /// How many pools of the same grammar came before.
    let generation: Int
    let storage = Mutex(PoolStorage())

    init(generation: Int) { self.generation = generation }

    func isFull(_ limits: GrammarLimits) -> Bool {
        storage.withLock { $0.isExhausted || $0.entryCount > limits.poolEntries }
    }
}

/// A place while tokens are tried. Most bytes move within one procedure over stacks that stay as they are; such a place
/// is a state and a node, and needs no node of its own. The limit of the stack is out of reach from it.
struct PoolCursor: Equatable {
    /// A plain state, or -1 when `node` is all there is.
    var state: Int32
    /// What lies below `state`, or the whole set.
    var node: Int32

    static let dead = PoolCursor(state: -1, node: PoolStorage.nothing)

    var isDead: Bool { self == .dead }
}

/// The nodes and what has been worked out about them.
struct PoolStorage: Sendable {
    /// The set without any stack: no text leads here.
    static let nothing: Int32 = 0
    /// The set of the empty stack alone: the text is complete and nothing may follow.
    static let complete: Int32 = 1
    /// Elementary steps of one operation. No grammar in use comes near; one made to be ambiguous can.
    private static let workLimit = 1 << 21

    struct Entry: Hashable, Sendable {
        let state: Int32
        let stack: Int32
    }

    private(set) var entries: [Entry] = []
    /// The entries of node n are `entries[starts[n]..<starts[n + 1]]`, in the order of states.
    private(set) var starts: [Int32] = [0, 0, 0]
    /// Whether the empty stack belongs to a node.
    private(set) var hasEmpty: [Bool] = [false, true]
    /// The height of the highest stack of each node.
    private(set) var depths: [Int32] = [0, 0]
    private var nodes: [UInt64: [Int32]] = [:]
    private var unions = IntegerMap()
    private var entered = IntegerMap()
    private var steps = IntegerMap()
    /// Each node's entries and the starts of what they call, all with moves: `reads[readStarts[n]...]`.
    private var reads: [Entry] = []
    private var readStarts: [Int32] = [-1, -1]
    private var readCounts: [Int32] = [0, 0]
    private var spent = 0
    /// An operation took too long; what is remembered may be incomplete.
    private(set) var isExhausted = false
    // Reused between operations.
    private var pending: [Entry] = []
    private var merged: [Entry] = []
    private var called: [(procedure: Int32, stack: Int32)] = []

    /// About forty bytes each.
    var entryCount: Int {
        entries.count + starts.count * 2 + (unions.count + entered.count + steps.count) * 2 + reads.count / 2
    }

    mutating func beginOperation() { spent = 0 }

    /// The node of `state` on top of every stack of `stack`.
    mutating func node(_ state: Int32, on stack: Int32) -> Int32 {
        intern([Entry(state: state, stack: stack)], hasEmpty: false)
    }

    /// The one node with these entries, which are in the order of states.
    mutating func intern(_ list: [Entry], hasEmpty empty: Bool) -> Int32 {
        if list.isEmpty { return empty ? Self.complete : Self.nothing }
        var hash: UInt64 = empty ? 0x51 : 0x17
        for entry in list {
            let word = UInt64(UInt32(bitPattern: entry.state)) << 32 | UInt64(UInt32(bitPattern: entry.stack))
            hash = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 31
        }
        candidates: for node in nodes[hash] ?? [] {
            let range = Int(starts[Int(node)])..<Int(starts[Int(node) + 1])
            guard hasEmpty[Int(node)] == empty, range.count == list.count else { continue }
            for (index, entry) in list.enumerated() where entries[range.lowerBound + index] != entry {
                continue candidates
            }
            return node
        }
        let node = Int32(hasEmpty.count)
        entries += list
        starts.append(Int32(entries.count))
        hasEmpty.append(empty)
        depths.append((list.map { depths[Int($0.stack)] }.max() ?? 0) + 1)
        readStarts.append(-1)
        readCounts.append(0)
        nodes[hash, default: []].append(node)
        return node
    }

    func range(of node: Int32) -> Range<Int> { Int(starts[Int(node)])..<Int(starts[Int(node) + 1]) }

    /// The stacks of both. Recursion is bounded by the height of the stacks, which is limited.
    mutating func union(_ first: Int32, _ second: Int32) -> Int32 {
        if first == second || second == Self.nothing { return first }
        if first == Self.nothing { return second }
        let key = UInt64(min(first, second)) << 32 | UInt64(max(first, second))
        if let known = unions[key] { return known }
        spent += 1
        guard spent < Self.workLimit else {
            isExhausted = true
            return Self.nothing
        }
        var result: [Entry] = []
        var left = range(of: first)
        var right = range(of: second)
        while let i = left.first, let j = right.first {
            let (a, b) = (entries[i], entries[j])
            if a.state == b.state {
                result.append(Entry(state: a.state, stack: union(a.stack, b.stack)))
                left.removeFirst()
                right.removeFirst()
            } else if a.state < b.state {
                result.append(a)
                left.removeFirst()
            } else {
                result.append(b)
                right.removeFirst()
            }
        }
        result += entries[left] + entries[right]
        let node = intern(result, hasEmpty: hasEmpty[Int(first)] || hasEmpty[Int(second)])
        unions.insert(node, at: key)
        return node
    }

    /// The node of everything that `pending` leads to without reading: procedures that may end return.
    private mutating func settle(_ grammar: CompiledGrammar) -> Int32 {
        let tables = grammar.tables
        let limit = Int32(grammar.limits.stackDepth)
        var isComplete = false
        merged.removeAll(keepingCapacity: true)
        while let entry = pending.popLast() {
            spent += 1 + merged.count / 16
            guard spent < Self.workLimit else {
                isExhausted = true
                pending.removeAll()
                return Self.nothing
            }
            let state = Int(entry.state)
            guard depths[Int(entry.stack)] + tables.heights[state] <= limit else { continue }
            if let place = merged.firstIndex(where: { $0.state == entry.state }) {
                let both = union(merged[place].stack, entry.stack)
                if both == merged[place].stack { continue }
                merged[place] = Entry(state: entry.state, stack: both)
            } else {
                merged.append(entry)
            }
            if tables.kinds[state] & AutomatonTables.Kind.accepts != 0 {
                if hasEmpty[Int(entry.stack)] { isComplete = true }
                pending += entries[range(of: entry.stack)]
            }
        }
        let goesOn = AutomatonTables.Kind.moves | AutomatonTables.Kind.calls
        merged.removeAll { tables.kinds[Int($0.state)] & goesOn == 0 }
        if merged.count > 1 { merged.sort { $0.state < $1.state } }
        return intern(merged, hasEmpty: isComplete)
    }

    /// What is left of `stack` when its top returns: its entries, and where their own ends lead.
    mutating func returned(to stack: Int32, _ grammar: CompiledGrammar) -> Int32 {
        pending = Array(entries[range(of: stack)])
        let node = settle(grammar)
        guard hasEmpty[Int(stack)] else { return node }
        return union(node, Self.complete)
    }

    /// The entries that read the next byte at `node`: its own, and the starts of what they call. Procedures are
    /// entered callers first, so each is entered once, with all stacks that it returns to.
    private mutating func readers(of node: Int32, _ grammar: CompiledGrammar) -> Range<Int> {
        if readStarts[Int(node)] >= 0 {
            let start = Int(readStarts[Int(node)])
            return start..<start + Int(readCounts[Int(node)])
        }
        let tables = grammar.tables
        var found: [Entry] = []
        called.removeAll(keepingCapacity: true)
        for index in range(of: node) { read(entries[index], &found, grammar) }
        while var next = called.indices.first {
            for index in called.indices
            where tables.procedureRanks[Int(called[index].procedure)]
                < tables.procedureRanks[Int(called[next].procedure)]
            { next = index }
            spent += called.count
            let (procedure, stack) = called[next]
            called.swapAt(next, called.count - 1)
            called.removeLast()
            read(Entry(state: tables.procedureStarts[Int(procedure)], stack: stack), &found, grammar)
        }
        readStarts[Int(node)] = Int32(reads.count)
        readCounts[Int(node)] = Int32(found.count)
        reads += found
        return reads.count - found.count..<reads.count
    }

    private mutating func read(_ entry: Entry, _ found: inout [Entry], _ grammar: CompiledGrammar) {
        let tables = grammar.tables
        let limit = Int32(grammar.limits.stackDepth)
        let state = Int(entry.state)
        if tables.kinds[state] & AutomatonTables.Kind.moves != 0 { found.append(entry) }
        for index in Int(tables.callStarts[state])..<Int(tables.callStarts[state + 1]) {
            let call = tables.calls[index]
            let below = depths[Int(entry.stack)]
            let inside = tables.heights[Int(tables.procedureStarts[Int(call.procedure)])] + (call.isLast ? 0 : 1)
            guard below + max(inside, tables.heights[Int(call.returnState)]) <= limit else { continue }
            let stack = call.isLast ? entry.stack : node(call.returnState, on: entry.stack)
            if let place = called.firstIndex(where: { $0.procedure == call.procedure }) {
                called[place].stack = union(called[place].stack, stack)
            } else {
                called.append((call.procedure, stack))
            }
        }
    }

    // MARK: Steps

    /// `node` as a place to step from.
    func cursor(_ node: Int32, _ grammar: CompiledGrammar) -> PoolCursor {
        let start = Int(starts[Int(node)])
        if Int(starts[Int(node) + 1]) - start == 1, !hasEmpty[Int(node)], isPlain(entries[start], grammar) {
            return PoolCursor(state: entries[start].state, node: entries[start].stack)
        }
        return PoolCursor(state: -1, node: node)
    }

    /// Whether a place is no more than this entry, and stays so while bytes move within the procedure.
    @inline(__always) func isPlain(_ entry: Entry, _ grammar: CompiledGrammar) -> Bool {
        grammar.tables.isPlain(entry.state)
            && depths[Int(entry.stack)] + grammar.tables.maxHeight <= grammar.limits.stackDepth
    }

    /// The node of a place.
    mutating func node(of cursor: PoolCursor) -> Int32 {
        cursor.state < 0 ? cursor.node : node(cursor.state, on: cursor.node)
    }

    /// Whether the text may end at `cursor`.
    func canEnd(_ cursor: PoolCursor) -> Bool { cursor.state < 0 && hasEmpty[Int(cursor.node)] }

    /// Where `byte` leads from `cursor`.
    @inline(__always)
    mutating func step(_ cursor: PoolCursor, _ byte: UInt8, _ grammar: CompiledGrammar) -> PoolCursor {
        guard cursor.state >= 0 else { return step(node: cursor.node, byte, grammar) }
        let next = grammar.tables.next(cursor.state, byte)
        if next < 0 { return .dead }
        if grammar.tables.isPlain(next) { return PoolCursor(state: next, node: cursor.node) }
        return enter(next, on: cursor.node, grammar)
    }

    /// A place where `state` has just been reached over `stack`.
    mutating func enter(_ state: Int32, on stack: Int32, _ grammar: CompiledGrammar) -> PoolCursor {
        let key = UInt64(state) << 32 | UInt64(stack)
        if let known = entered[key] { return cursor(known, grammar) }
        pending.append(Entry(state: state, stack: stack))
        let node = settle(grammar)
        entered.insert(node, at: key)
        return cursor(node, grammar)
    }

    private mutating func step(node: Int32, _ byte: UInt8, _ grammar: CompiledGrammar) -> PoolCursor {
        let tables = grammar.tables
        pending.removeAll(keepingCapacity: true)
        for index in readers(of: node, grammar) {
            let next = tables.next(reads[index].state, byte)
            if next >= 0 { pending.append(Entry(state: next, stack: reads[index].stack)) }
        }
        guard let only = pending.last else { return .dead }
        if pending.count == 1 {
            pending.removeAll(keepingCapacity: true)
            if isPlain(only, grammar) { return PoolCursor(state: only.state, node: only.stack) }
            return enter(only.state, on: only.stack, grammar)
        }
        let key = UInt64(node) << 8 | UInt64(byte)
        if let known = steps[key] {
            pending.removeAll(keepingCapacity: true)
            return cursor(known, grammar)
        }
        let result = settle(grammar)
        steps.insert(result, at: key)
        return cursor(result, grammar)
    }

    /// The only byte that may follow at `node`, when there is exactly one.
    mutating func onlyByte(at node: Int32, _ grammar: CompiledGrammar) -> UInt8? {
        var only: UInt8?
        for index in readers(of: node, grammar) {
            let state = reads[index].state
            for byte in UInt8.min...UInt8.max where byte != only && grammar.tables.next(state, byte) >= 0 {
                if only != nil { return nil }
                only = byte
            }
        }
        return only
    }

    /// A copy of `node` of another pool, whose nodes are all made after those they refer to.
    mutating func adopt(_ node: Int32, from other: PoolStorage) -> Int32 {
        var numbers: [Int32: Int32] = [Self.nothing: Self.nothing, Self.complete: Self.complete]
        var needed: Set<Int32> = []
        var waiting = [node]
        while let next = waiting.popLast() {
            guard needed.insert(next).inserted else { continue }
            for entry in other.entries[other.range(of: next)] { waiting.append(entry.stack) }
        }
        for next in needed.sorted() where next > Self.complete {
            let list = other.entries[other.range(of: next)].map {
                Entry(state: $0.state, stack: numbers[$0.stack] ?? Self.nothing)
            }
            numbers[next] = intern(list, hasEmpty: other.hasEmpty[Int(next)])
        }
        return numbers[node] ?? Self.nothing
    }
}
