// Membership by the definition of expressions, as slowly as that is: which ends a match that begins at one place of a
// text can have, as the least solution of the rules' equations. It knows nothing of automata.

import Grammars

/// Decides texts of one grammar.
struct ReferenceMatcher {
    let grammar: Grammar

    /// Whether the whole of `text` matches.
    func matches(_ text: [UInt8]) -> Bool {
        // ends[rule][begin] grows until nothing changes.
        var ends = [[Set<Int>]](
            repeating: [Set<Int>](repeating: [], count: text.count + 1), count: grammar.rules.count)
        var changed = true
        while changed {
            changed = false
            for (index, rule) in grammar.rules.enumerated() {
                for begin in 0...text.count {
                    let found = self.ends(of: rule.body, from: begin, text, ends)
                    if !found.isSubset(of: ends[index][begin]) {
                        ends[index][begin].formUnion(found)
                        changed = true
                    }
                }
            }
        }
        return ends[grammar.start.index][0].contains(text.count)
    }

    private func ends(of expression: Expression, from begin: Int, _ text: [UInt8], _ rules: [[Set<Int>]]) -> Set<Int> {
        switch expression {
        case .empty: return [begin]
        case .nothing: return []
        case .bytes(let bytes): return text[begin...].starts(with: bytes) ? [begin + bytes.count] : []
        case .byte(let set): return begin < text.count && set.contains(text[begin]) ? [begin + 1] : []
        case .scalar(let ranges):
            for count in 1...4 where begin + count <= text.count {
                guard let string = String(validating: text[begin..<begin + count], as: UTF8.self),
                    string.unicodeScalars.count == 1, let scalar = string.unicodeScalars.first
                else { continue }
                return ranges.contains { $0.contains(scalar) } ? [begin + count] : []
            }
            return []
        case .sequence(let parts):
            return parts.reduce(Set([begin])) { begins, part in
                Set(begins.flatMap { ends(of: part, from: $0, text, rules) })
            }
        case .choice(let parts): return Set(parts.flatMap { ends(of: $0, from: begin, text, rules) })
        case .repetition(let body, let least, let most):
            var begins: Set<Int> = [begin]
            for _ in 0..<least { begins = Set(begins.flatMap { ends(of: body, from: $0, text, rules) }) }
            var all = begins
            var count = least
            while count < most ?? .max {
                begins = Set(begins.flatMap { ends(of: body, from: $0, text, rules) }).subtracting(all)
                if begins.isEmpty { break }
                all.formUnion(begins)
                count += 1
            }
            return all
        case .listing(let elements, let separator):
            // Where the text stands with nothing of the listing yet, and with some of it.
            var bare: Set<Int> = [begin]
            var filled: Set<Int> = []
            for element in elements {
                let starts = bare.union(filled.flatMap { ends(of: separator, from: $0, text, rules) })
                let found = Set(starts.flatMap { ends(of: element.expression, from: $0, text, rules) })
                filled = element.isRequired ? found : filled.union(found)
                if element.isRequired { bare = [] }
            }
            return filled
        case .rule(let rule): return rules[rule.index][begin]
        case .intersection(let first, let second):
            return ends(of: first, from: begin, text, rules).intersection(ends(of: second, from: begin, text, rules))
        case .difference(let first, let second):
            return ends(of: first, from: begin, text, rules).subtracting(ends(of: second, from: begin, text, rules))
        }
    }
}

/// A repeatable source of random numbers (SplitMix64).
struct TestRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }

    /// An expression over the bytes a, b, c and é, with references to `rules` rules.
    mutating func expression(_ depth: Int, rules: Int) -> Expression {
        let kind = depth == 0 ? Int.random(in: 0..<5, using: &self) : Int.random(in: 0..<14, using: &self)
        func parts(_ random: inout TestRandom) -> [Expression] {
            (0..<Int.random(in: 1...3, using: &random)).map { _ in random.expression(depth - 1, rules: rules) }
        }
        switch kind {
        case 0: return chance(70) ? .text("a") : .empty
        case 1:
            return .bytes(
                (0..<Int.random(in: 1...3, using: &self)).map { _ in UInt8.random(in: 97...99, using: &self) })
        case 2: return .byte(ByteSet((97...99).filter { _ in chance(50) }))
        case 3: return chance(50) ? .scalar(["b"..."c", "é"..."é"]) : .text("é")
        case 4: return rules > 0 ? .rule(RuleID(Int.random(in: 0..<rules, using: &self))) : .text("c")
        case 5, 6, 7: return .sequence(parts(&self))
        case 8, 9, 10: return .choice(parts(&self))
        case 11, 12:
            let least = Int.random(in: 0...2, using: &self)
            let most = chance(40) ? nil : least + Int.random(in: 0...3, using: &self)
            return .repetition(expression(depth - 1, rules: rules), atLeast: least, atMost: most)
        default:
            let (first, second) = (expression(depth - 1, rules: 0), expression(depth - 1, rules: 0))
            return chance(50) ? .intersection(first, second) : .difference(first, second)
        }
    }

    mutating func grammar() -> Grammar {
        let count = Int.random(in: 1...4, using: &self)
        return rules((0..<count).map { _ in expression(3, rules: count) })
    }
}
