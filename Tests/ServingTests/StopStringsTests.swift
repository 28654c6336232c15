// Stop strings: what is held back, what is cut, and that it does not matter how the text arrives.

import Serving
import Testing

@Suite struct StopStringsTests {
    /// Feeds `pieces` and returns what comes out, with the stop string that was found.
    private func run(_ stops: [String], _ pieces: [String]) -> (out: [String], found: String?) {
        var scanner = StopStrings(stops)
        var out = pieces.map { scanner.append($0) }
        out.append(scanner.finish())
        return (out, scanner.found)
    }

    @Test func `text passes at once when there is nothing to look for`() {
        #expect(run([], ["a", "", "bc"]).out == ["a", "", "bc", ""])
    }

    @Test func `only what could still become a stop string is held back`() {
        let (out, found) = run(["END"], ["one E", "N", "x E", "N"])
        #expect(out == ["one ", "", "ENx ", "", "EN"])
        #expect(found == nil)
    }

    @Test func `a stop string that straddles pieces is cut and nothing follows it`() {
        let (out, found) = run(["\n\n", "STOP"], ["a S", "TO", "P b", "c"])
        #expect(out.joined() == "a ")
        #expect(found == "STOP")
    }

    @Test func `a partial match that restarts inside itself is found`() {
        let (out, found) = run(["aab"], ["a", "a", "a", "b"])
        #expect(out.joined() == "a")
        #expect(found == "aab")
    }

    @Test func `of matches that end together the longest is cut`() {
        let (out, found) = run(["b", "ab"], ["xab"])
        #expect(out.joined() == "x")
        #expect(found == "ab")
    }

    @Test func `of matches in one piece the one that ends first counts`() {
        let (out, found) = run(["zz", "b"], ["abzz"])
        #expect(out.joined() == "a")
        #expect(found == "b")
    }

    @Test func `characters of several bytes are never cut`() {
        let (out, found) = run(["日本"], ["x日", "曜日", "本y"])
        #expect(out == ["x", "日曜", "", ""])
        #expect(found == "日本")
    }

    /// A generator with a seed, so that a failure can be repeated.
    struct Random: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state ^ state >> 33) &* 0xFF51_AFD7_ED55_8CCD
        }
    }

    @Test func `the outcome does not depend on how the text is cut`() {
        let alphabet = ["a", "b", "ab", "aab", "日", "é", "\n"]
        for seed in 0..<500 {
            var random = Random(state: UInt64(seed))
            func word(_ lengths: ClosedRange<Int>) -> String {
                (0..<Int.random(in: lengths, using: &random))
                    .map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] }.joined()
            }
            let text = word(0...40)
            let stops = (0..<Int.random(in: 1...4, using: &random)).map { _ in word(1...4) }
            let whole = run(stops, [text])
            let characters = run(stops, text.map(String.init))
            #expect(whole.out.joined() == characters.out.joined(), "seed \(seed)")
            #expect(whole.found == characters.found, "seed \(seed)")
            // The reference: the shortest prefix that ends with a stop string, less the longest that it ends with.
            let bytes = Array(text.utf8)
            let end = (0...bytes.count).first { end in
                stops.contains { bytes[..<end].suffix($0.utf8.count).elementsEqual($0.utf8) }
            }
            if let end {
                let prefix = bytes[..<end]
                let longest =
                    stops.filter { prefix.suffix($0.utf8.count).elementsEqual($0.utf8) }.map(\.utf8.count).max() ?? 0
                #expect(Array(whole.out.joined().utf8) == Array(prefix.dropLast(longest)), "seed \(seed)")
            } else {
                #expect(whole.out.joined() == text, "seed \(seed)")
            }
        }
    }
}
