// Finds stop strings in text that arrives in pieces, and holds back whatever could still become one.
//
// Each stop string is a Knuth–Morris–Pratt automaton, so a byte costs constant time however the strings are chosen,
// and what must be held back is the longest partial match. Cutting the text differently never changes the outcome: the
// match that ends first wins, and of those that end together the longest.

/// A scanner for the stop strings of one choice.
package struct StopStrings: Sendable {
    /// One stop string and how much of it the text ends with.
    private struct Automaton: Sendable {
        let text: String
        let bytes: [UInt8]
        /// [bytes] length of the longest proper prefix that is a suffix of bytes[...i].
        let fallback: [Int]
        var matched = 0

        init(_ text: String) {
            self.text = text
            bytes = Array(text.utf8)
            var fallback = [Int](repeating: 0, count: bytes.count)
            var length = 0
            for index in 1..<max(1, bytes.count) {
                while length > 0 && bytes[index] != bytes[length] { length = fallback[length - 1] }
                if bytes[index] == bytes[length] { length += 1 }
                fallback[index] = length
            }
            self.fallback = fallback
        }

        /// Takes one byte of text; true when it completes the string.
        mutating func advance(_ byte: UInt8) -> Bool {
            while matched > 0 && bytes[matched] != byte { matched = fallback[matched - 1] }
            if bytes[matched] == byte { matched += 1 }
            return matched == bytes.count
        }
    }

    private var automata: [Automaton]
    private let keepsMatch: Bool
    /// Text that has been scanned and not given out: a partial match.
    private var held: [UInt8] = []
    /// The stop string that was found; nothing is given out any more.
    package private(set) var found: String?

    /// A scanner for `strings`, of which none is empty.
    /// - Parameter keepsMatch: whether the string that was found is given out too.
    package init(_ strings: [String], keepsMatch: Bool = false) {
        self.keepsMatch = keepsMatch
        automata = strings.filter { !$0.isEmpty }.map(Automaton.init)
    }

    /// Takes the next piece of text, which is whole characters, and returns what can be given out now: everything
    /// before a match, or everything that cannot be the beginning of one.
    package mutating func append(_ text: String) -> String {
        guard found == nil else { return "" }
        if automata.isEmpty { return text }
        let heldCount = held.count
        held.append(contentsOf: text.utf8)
        for position in heldCount..<held.count {
            var longest: Automaton?
            for index in automata.indices where automata[index].advance(held[position]) {
                if automata[index].bytes.count > longest?.bytes.count ?? 0 { longest = automata[index] }
            }
            if let longest {
                found = longest.text
                let end = position + 1 - (keepsMatch ? 0 : longest.bytes.count)
                return String(decoding: held[..<end], as: UTF8.self)
            }
        }
        let tail = automata.reduce(0) { max($0, $1.matched) }
        let ready = String(decoding: held.dropLast(tail), as: UTF8.self)
        held.removeFirst(held.count - tail)
        return ready
    }

    /// The text that was held back and, as nothing follows, is no stop string.
    package mutating func finish() -> String {
        guard found == nil else { return "" }
        defer { held.removeAll() }
        return String(decoding: held, as: UTF8.self)
    }
}
