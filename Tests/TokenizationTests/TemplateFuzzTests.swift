// Mutated templates: whatever comes out of them, the process lives and the budgets hold.

import Testing
import Tokenization

struct TemplateFuzzTests {
    /// SplitMix64: the same seed, the same templates, on every machine.
    private struct Generator {
        var state: UInt64

        mutating func next(_ bound: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((mixed ^ (mixed >> 31)) % UInt64(max(bound, 1)))
        }
    }

    private static let pieces = [
        "{{", "}}", "{%", "%}", "{#", "#}", "-", "+", "(", ")", "[", "]", "{", "}", "|", ".", ",", ":", "~", "'", "\"",
        "\\",
        " if ", " else ", " for ", " in ", " is ", " not ", "loop", "messages", "9223372036854775807", "-1", "0",
        "1e308",
        "|length", "|join", "|tojson", "|map('", "|first", "|sort", "[::-1]", "[-1]", "* 99", "** 9", "// 0", "é", "\n",
        "{% set ", "{% endfor %}", "{% endif %}", "range(", "namespace(", "none", "|int", "|indent(", "%s", "\u{0}",
    ]

    private static func mutated(_ source: [UInt8], _ others: [[UInt8]], _ generator: inout Generator) -> String {
        var bytes = source
        for _ in 0...generator.next(4) {
            let start = generator.next(bytes.count + 1)
            let end = min(bytes.count, start + generator.next(12))
            switch generator.next(5) {
            case 0: bytes.removeSubrange(start..<end)
            case 1: bytes.replaceSubrange(start..<end, with: Array(pieces[generator.next(pieces.count)].utf8))
            case 2: bytes.insert(contentsOf: Array(pieces[generator.next(pieces.count)].utf8), at: start)
            case 3: bytes.insert(contentsOf: bytes[start..<end], at: generator.next(bytes.count + 1))
            default:
                let other = others[generator.next(others.count)]
                let from = generator.next(other.count + 1)
                bytes.insert(contentsOf: other[from..<min(other.count, from + generator.next(40))], at: start)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func `fifty thousand mutated templates neither trap nor exceed their budgets`() throws {
        let (now, cases) = try TemplateFixtures.cases()
        let inputs = cases.map { TemplateFixtures.input($0.context, now: now) }
        let sources = cases.map { Array($0.source.utf8) }
        let limits = TemplateLimits(steps: 5000, textBytes: 1 << 16)
        var generator = Generator(state: 20_260)
        var compiled = 0
        var rendered = 0
        for _ in 0..<50_000 {
            let index = generator.next(cases.count)
            let source = Self.mutated(sources[index], sources, &generator)
            do throws(TemplateError) {
                let template = try ChatTemplate(source: source, limits: limits)
                compiled += 1
                let runs = try template.render(inputs[index])
                rendered += 1
                #expect(runs.reduce(0) { $0 + $1.text.utf8.count } <= limits.textBytes)
            } catch {
                #expect(error.location.line >= 1 && error.location.column >= 1)
            }
        }
        // A fuzzer whose templates all fail at once tests nothing.
        #expect(compiled > 5000 && rendered > 4000, "\(compiled) compiled, \(rendered) rendered")
    }
}
