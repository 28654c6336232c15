// Templates that want too much are refused early and by name; templates that are broken say where.

import Foundation
import Testing
import Tokenization

struct TemplateLimitTests {
    private static let data = ChatTemplateInput(
        messages: [["role": "user", "content": "hello"]], addGenerationPrompt: true,
        arguments: [.init("text", .string(String(repeating: "ab", count: 200_000)))])

    /// The error of compiling and rendering `source`, or nil.
    private static func failure(_ source: String, _ limits: TemplateLimits = TemplateLimits()) -> TemplateError? {
        do throws(TemplateError) {
            _ = try ChatTemplate(source: source, limits: limits).render(data)
            return nil
        } catch {
            return error
        }
    }

    private static func repeated(_ text: String, _ count: Int = 100_000) -> String {
        String(repeating: text, count: count)
    }

    private static let bombs: [(source: String, budget: TemplateError.Budget)] = [
        ("{% for i in range(10**9) %}{% endfor %}", .elements),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", .steps),
        ("{% for i in range(99999) %}{{ i }}{% endfor %}", .steps),
        ("{{ 'a' * 10**9 }}", .output),
        ("{{ [1] * 10**9 }}", .elements),
        ("{{ 'a' * 9223372036854775807 }}{{ 'ab' * 9223372036854775807 }}", .output),
        ("{% set ns = namespace(s='aa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", .output),
        ("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", .elements),
        ("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l] %}{% endfor %}", .nesting),
        (
            "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
            .steps
        ),
        (
            "{% set ns = namespace(l=(1,)) %}{% for i in range(40) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ {ns.l: 1} }}",
            .steps
        ),
        (
            "{% set ns = namespace(l=(1,)) %}{% for i in range(40) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ ns.l == ns.l }}",
            .steps
        ),
        (
            "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
            .steps
        ),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", .recursion),
        ("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", .recursion),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", .recursion),
        ("{{ 'a'|center(10**12) }}", .output),
        ("{{ 'a'.ljust(10**12) }}", .output),
        ("{{ '%999999999s' % 'a' }}", .output),
        ("{{ 'a\\nb'|indent(10**12) }}", .output),
        ("{{ [1]|tojson(indent=10**12) }}", .output),
        ("{{ text|replace('a', text) }}", .output),
        ("{{ text|list }}", .elements),
        ("{{ text.split('b') }}", .elements),
        ("{% for i in range(9999) %}{% if text|replace('ba', 'c') %}{% endif %}{% endfor %}", .steps),
        ("{% for i in range(9999) %}{% set x = text ~ i %}{% endfor %}", .steps),
        ("{% for i in range(9999) %}{{ text }}{% endfor %}", .output),
        ("{{ 'abc'|replace('', text) }}{{ text ~ text ~ text }}", .output),
        (repeated("{{ ") + repeated("["), .source),
        ("{{ " + repeated("["), .nesting),
        ("{{ " + repeated("("), .nesting),
        ("{{ " + repeated("{1:", 60_000), .nesting),
        ("{{ " + repeated("-") + "1 }}", .nesting),
        ("{{ " + repeated("not ", 60_000) + "1 }}", .nesting),
        ("{{ " + repeated("x[", 60_000), .nesting),
        ("{{ " + repeated("f(", 60_000), .nesting),
        ("{{ " + repeated("1 if 1 else ", 20_000) + "1 }}", .nesting),
        ("{{ 1" + repeated(" is in [1", 20_000), .nesting),
        (repeated("{% if 1 %}", 20_000), .nesting),
        (repeated("{% for x in y %}", 10_000), .nesting),
        (repeated("{% macro m() %}", 10_000), .nesting),
        ("{% set " + repeated("(") + "a", .nesting),
    ]

    @Test(arguments: bombs.indices)
    func `a bomb is refused quickly, by the budget it exhausts`(_ index: Int) {
        let (source, budget) = Self.bombs[index]
        var failure: TemplateError?
        let time = ContinuousClock().measure { failure = Self.failure(source) }
        guard case .exceeded(let exceeded, _, _)? = failure else {
            Issue.record("\(source.prefix(200)): \(String(describing: failure))")
            return
        }
        #expect(exceeded == budget, "\(source.prefix(200))")
        #expect(time < .seconds(2), "\(source.prefix(200)): \(time)")
    }

    @Test func `long chains of operators cost no nesting`() {
        for chain in [
            "1" + Self.repeated(" + 1", 5000), "x" + Self.repeated(".y", 1), "'a'" + Self.repeated("|trim", 5000),
            "1" + Self.repeated(" and 1", 5000), "'a'" + Self.repeated(" ~ 'a'", 5000),
        ] {
            let failure = Self.failure("{% set x = {'y': 1} %}{{ \(chain) }}")
            #expect(failure == nil)
        }
    }

    @Test func `the deepest template that is allowed fits in a stack of 512 KiB`() {
        let limits = TemplateLimits()
        let sources = [
            "{{ " + Self.repeated("[", 62) + Self.repeated("]", 62) + " }}",
            "{{ " + Self.repeated("(", 61) + "1" + Self.repeated(")", 61) + " }}",
            Self.repeated("{% if 1 %}", 60) + "{{ 1 }}" + Self.repeated("{% endif %}", 60),
            Self.repeated("{% for x in [1] %}", 60) + "{{ x }}" + Self.repeated("{% endfor %}", 60),
            "{% macro m() %}{% filter trim %}{{ [m()|trim]|map('trim')|list }}{% endfilter %}{% endmacro %}{{ m() }}",
            "{% macro m(a) %}{% set b %}{{ {'a': m({'a': a}|default(m))} }}{% endset %}{% endmacro %}{{ m(1) }}",
            "{% for x in [1] recursive %}{% with a = loop([1]) %}{% endwith %}{% endfor %}",
            "{% macro m() %}{{ caller() }}{% endmacro %}"
                + Self.repeated("{% call m() %}", 60) + "x" + Self.repeated("{% endcall %}", 60),
        ]
        let finished = DispatchSemaphore(value: 0)
        let thread = Thread {
            for source in sources {
                switch Self.failure(source, limits) {
                case nil, .exceeded?: break
                case let failure?: Issue.record("\(source.prefix(80)): \(failure)")
                }
            }
            finished.signal()
        }
        thread.stackSize = 512 << 10
        thread.start()
        finished.wait()
    }

    @Test func `each limit holds at its value and not one beyond`() {
        #expect(Self.failure("12345", TemplateLimits(sourceBytes: 5)) == nil)
        #expect(Self.failure("123456", TemplateLimits(sourceBytes: 5))?.location.line == 1)
        #expect(Self.failure("12345", TemplateLimits(textBytes: 1 << 19)) == nil)
        #expect(Self.failure("{{ 'a' * 1048576 }}") == nil)
        #expect(Self.failure("{{ 'a' * 1048577 }}") != nil)
        #expect(Self.failure("{{ range(100000)|length }}") == nil)
        #expect(Self.failure("{{ range(100001)|length }}") != nil)
    }

    @Test(arguments: [
        (
            "a\n{{ x | nonesuch }}",
            "the chat template uses the filter 'nonesuch' at line 2, column 8, which is not supported"
        ),
        (
            "{{ 1 is nonesuch }}",
            "the chat template uses the test 'nonesuch' at line 1, column 9, which is not supported"
        ),
        ("{% nonesuch %}", "the chat template uses the tag 'nonesuch' at line 1, column 4, which is not supported"),
        (
            "{{ nonesuch() }}",
            "the chat template uses the function 'nonesuch' at line 1, column 12, which is not supported"
        ),
        (
            "{{ [1]|map('nonesuch') }}",
            "the chat template uses the filter 'nonesuch' at line 1, column 24, which is not supported"
        ),
        ("é\r\n\n {{ 1 + }}", "the chat template is malformed at line 3, column 9: expected an expression, found '}}'"),
        (
            "{% if 1 %}",
            "the chat template is malformed at line 1, column 11: expected '{% elif %}', found the end of the template"
        ),
    ])
    func `what cannot be compiled is refused at load, with its place and name`(_ source: String, _ sentence: String) {
        #expect(throws: TemplateError.self) { try ChatTemplate(source: source) }
        #expect(Self.failure(source)?.description == sentence)
    }

    @Test func `a template's own refusal is an error of its own kind`() {
        let failure = Self.failure("\n{{ raise_exception('no ' ~ messages[0].role) }}")
        #expect(failure == .raised(message: "no user", TemplateLocation(line: 2, column: 19)))
        #expect(
            failure?.description == "the chat template refused the conversation at line 2, column 19: no user")
        #expect(
            Self.failure("{{ nosuch.x }}")?.description
                == "the chat template failed at line 1, column 10: 'nosuch' is undefined")
        #expect(Self.failure("{{ 9223372036854775807 + 1 }}") != nil)
        #expect(Self.failure("{{ (-9223372036854775807 - 1) // -1 }}") != nil)
        #expect(Self.failure("{{ (-9223372036854775807 - 1) % -1 }}") == nil)
        #expect(Self.failure("{{ -9223372036854775807 - 2 }}") != nil)
        #expect(Self.failure("{{ -9223372036854775807 - 1 in range(5, -5, -1) }}") == nil)
        #expect(Self.failure("{{ [1][9223372036854775807:-9223372036854775807 - 1:-9223372036854775807 - 1] }}") == nil)
        #expect(Self.failure("{{ 1e300|int }}") != nil)
    }
}
