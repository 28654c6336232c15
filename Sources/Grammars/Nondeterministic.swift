// One procedure of a grammar as a nondeterministic automaton: moves on bytes, calls of other procedures, and free
// moves. It only exists during compilation.

/// The byte sets of a grammar, each kept once, without the bytes that cannot be written.
struct ByteSetTable {
    private let writable: ByteSet
    private(set) var sets: [ByteSet] = []
    private var indices: [ByteSet: Int32] = [:]

    init(unwritable: ByteSet) { writable = unwritable.inverted }

    mutating func index(of set: ByteSet) -> Int32 {
        let set = set.intersection(writable)
        if let known = indices[set] { return known }
        let index = Int32(sets.count)
        sets.append(set)
        indices[set] = index
        return index
    }
}

/// State 0 is where it starts; nothing ever moves back into it. `end` accepts.
struct Nondeterministic {
    struct Move {
        /// An index into the `ByteSetTable`.
        let set: Int32
        let target: Int32
    }

    struct Call: Equatable {
        let procedure: Int32
        let target: Int32
    }

    struct State {
        var free: [Int32] = []
        var moves: [Move] = []
        var calls: [Call] = []
    }

    var states = [State()]
    var end: Int32 = 0

    mutating func addState() -> Int32 {
        states.append(State())
        return Int32(states.count - 1)
    }

    mutating func addFree(from source: Int32, to target: Int32) { states[Int(source)].free.append(target) }

    mutating func addMove(from source: Int32, on set: Int32, to target: Int32) {
        states[Int(source)].moves.append(Move(set: set, target: target))
    }

    mutating func addCall(from source: Int32, of procedure: Int32, to target: Int32) {
        states[Int(source)].calls.append(Call(procedure: procedure, target: target))
    }

    /// What free moves reach from `sources`, `sources` included. Marks are left clean.
    func closure(of sources: [Int32], marks: inout [Bool]) -> [Int32] {
        var found: [Int32] = []
        for source in sources where !marks[Int(source)] {
            marks[Int(source)] = true
            found.append(source)
        }
        var next = 0
        while next < found.count {
            for target in states[Int(found[next])].free where !marks[Int(target)] {
                marks[Int(target)] = true
                found.append(target)
            }
            next += 1
        }
        for state in found { marks[Int(state)] = false }
        return found
    }
}

/// The strongly connected parts of a graph, numbered so that what a part leads to has a smaller number than itself.
func stronglyConnectedParts(_ successors: [[Int32]]) -> [Int32] {
    var part = [Int32](repeating: -1, count: successors.count)
    var order = [Int32](repeating: -1, count: successors.count)
    var low = [Int32](repeating: 0, count: successors.count)
    var open: [Int32] = []
    var path: [(node: Int, edge: Int)] = []
    var nextOrder: Int32 = 0
    var nextPart: Int32 = 0
    for root in successors.indices where order[root] < 0 {
        path.append((root, 0))
        while let (node, edge) = path.last {
            if edge == 0 {
                order[node] = nextOrder
                low[node] = nextOrder
                nextOrder += 1
                open.append(Int32(node))
            }
            if edge < successors[node].count {
                path[path.count - 1].edge += 1
                let target = Int(successors[node][edge])
                if order[target] < 0 {
                    path.append((target, 0))
                } else if part[target] < 0 {
                    low[node] = min(low[node], order[target])
                }
                continue
            }
            path.removeLast()
            if let parent = path.last?.node { low[parent] = min(low[parent], low[node]) }
            if low[node] == order[node] {
                while let member = open.popLast() {
                    part[Int(member)] = nextPart
                    if member == Int32(node) { break }
                }
                nextPart += 1
            }
        }
    }
    return part
}
