// States that no short text tells apart. The hundred places in a string of at most a hundred characters are different
// states, but what a token of sixteen bytes may do is the same in most of them: one mask serves them all.

extension AutomatonTables {
    /// Pairs of states that one comparison looks at.
    private static let pairLimit = 2_048

    /// The procedure's table of classes, what the state can do next and which bytes it reads: alike states have equal
    /// outlines.
    func outline(of state: Int32) -> UInt64 {
        var hash = UInt64(kinds[Int(state)]) << 32 | UInt64(classStarts[Int(state)])
        func mix(_ value: UInt64) {
            hash = (hash ^ value) &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 29
        }
        for place in row(of: state) { mix(rows[place] < 0 ? 0 : 1) }
        for call in calls(of: state) { mix(UInt64(calls[call].procedure) + 2) }
        return hash
    }

    /// Whether no text of at most `length` bytes is read differently from the two states, whatever lies below them on
    /// the stack. Breadth first, so that each pair is met with the most bytes left.
    func areAlike(_ first: Int32, _ second: Int32, length: Int) -> Bool {
        guard classStarts[Int(first)] == classStarts[Int(second)] else { return false }
        var pairs = [SIMD2(first, second)]
        var seen: Set<SIMD2<Int32>> = [pairs[0]]
        var next = 0
        for _ in 0..<length {
            let end = pairs.count
            guard next < end else { return true }
            guard end < Self.pairLimit else { return false }
            while next < end {
                let pair = pairs[next]
                next += 1
                let calls = (calls(of: pair.x), calls(of: pair.y))
                guard kinds[Int(pair.x)] == kinds[Int(pair.y)], calls.0.count == calls.1.count else { return false }
                func meet(_ a: Int32, _ b: Int32) {
                    if a != b, seen.insert(SIMD2(a, b)).inserted { pairs.append(SIMD2(a, b)) }
                }
                for (a, b) in zip(row(of: pair.x), row(of: pair.y)) where rows[a] != rows[b] {
                    guard rows[a] >= 0, rows[b] >= 0 else { return false }
                    meet(rows[a], rows[b])
                }
                for (a, b) in zip(calls.0, calls.1) {
                    let (a, b) = (self.calls[a], self.calls[b])
                    guard a.procedure == b.procedure, a.isLast == b.isLast else { return false }
                    meet(a.returnState, b.returnState)
                }
            }
        }
        return true
    }

    private func row(of state: Int32) -> Range<Int> {
        let end = Int(state) + 1 < stateCount ? Int(rowStarts[Int(state) + 1]) : rows.count
        return Int(rowStarts[Int(state)])..<end
    }

    private func calls(of state: Int32) -> Range<Int> {
        Int(callStarts[Int(state)])..<Int(callStarts[Int(state) + 1])
    }
}
