// The tree a template is parsed into. Operators that chain to the left (`a + b + c`, `a.b|c`, `a and b`) are one
// node with a list, so only real nesting costs stack, when parsing, evaluating and freeing alike.

extension Jinja {
    /// A parsed template.
    struct Program: Sendable {
        var body: [Statement]
        /// The names of the template; a name is referred to by its index here.
        var names: [String]
    }

    enum Statement: Sendable {
        case text(Text)
        case output(Expression)
        case assign(Target, Expression)
        case assignBlock(Target, [FilterCall], [Statement])
        case branch([Branch], otherwise: [Statement])
        case loop(Loop)
        case breakLoop
        case continueLoop
        case macro(Macro)
        case call(CallBlock)
        case filter([FilterCall], [Statement])
        case with([(target: Target, value: Expression)], [Statement])
        /// A body whose assignments stay inside.
        case scope([Statement])
    }

    struct Branch: Sendable {
        let condition: Expression
        let body: [Statement]
    }

    indirect enum Target: Sendable {
        case name(Int)
        case attribute(Int, name: Text, TemplateLocation)
        case tuple([Target], TemplateLocation)
    }

    final class Loop: Sendable {
        let target: Target
        let iterated: Expression
        let condition: Expression?
        let isRecursive: Bool
        let body: [Statement]
        let otherwise: [Statement]
        let location: TemplateLocation

        init(
            target: Target, iterated: Expression, condition: Expression?, isRecursive: Bool, body: [Statement],
            otherwise: [Statement], location: TemplateLocation
        ) {
            self.target = target
            self.iterated = iterated
            self.condition = condition
            self.isRecursive = isRecursive
            self.body = body
            self.otherwise = otherwise
            self.location = location
        }
    }

    /// A macro, or the body of a call block, which is one without a name.
    final class Macro: Sendable {
        struct Parameter: Sendable {
            let symbol: Int
            let name: String
            let fallback: Expression?
        }

        let name: String
        let symbol: Int
        let parameters: [Parameter]
        let body: [Statement]
        /// The symbols of `varargs`, `kwargs` and `caller`, where the body mentions them.
        let extraPositional: Int?
        let extraNamed: Int?
        let caller: Int?

        init(
            name: String, symbol: Int, parameters: [Parameter], body: [Statement], extraPositional: Int?,
            extraNamed: Int?, caller: Int?
        ) {
            self.name = name
            self.symbol = symbol
            self.parameters = parameters
            self.body = body
            self.extraPositional = extraPositional
            self.extraNamed = extraNamed
            self.caller = caller
        }
    }

    final class CallBlock: Sendable {
        let callee: Expression
        let arguments: Arguments
        let macro: Macro
        let location: TemplateLocation

        init(callee: Expression, arguments: Arguments, macro: Macro, location: TemplateLocation) {
            self.callee = callee
            self.arguments = arguments
            self.macro = macro
            self.location = location
        }
    }

    struct FilterCall: Sendable {
        let filter: Filter
        let arguments: Arguments
        let location: TemplateLocation
    }

    /// What stands between the parentheses of a call.
    struct Arguments: Sendable {
        var positional: [Expression] = []
        var named: [(name: String, value: Expression)] = []
        /// `*values`
        var unpacked: Expression?
        /// `**members`
        var unpackedNamed: Expression?

        var isEmpty: Bool {
            positional.isEmpty && named.isEmpty && unpacked == nil && unpackedNamed == nil
        }
    }

    indirect enum Expression: Sendable {
        case constant(Value)
        case name(Int, TemplateLocation)
        case list([Expression])
        case tuple([Expression])
        case mapping([(key: Expression, value: Expression)], TemplateLocation)
        /// Arithmetic operators of one precedence, applied from the left.
        case arithmetic(Expression, [Operand<Arithmetic>])
        case concatenate([Expression], TemplateLocation)
        /// `a < b < c`, as in Python: all comparisons hold, and each operand is evaluated once.
        case compare(Expression, [Operand<Comparison>])
        case all([Expression])
        case any([Expression])
        case not(Expression)
        case negate(Expression, TemplateLocation)
        case plus(Expression, TemplateLocation)
        case conditional(Expression, if: Expression, otherwise: Expression?)
        case postfix(Expression, [Postfix])
    }

    struct Operand<Operator: Sendable>: Sendable {
        let symbol: Operator
        let value: Expression
        let location: TemplateLocation
    }

    enum Arithmetic: String, Sendable {
        case add = "+"
        case subtract = "-"
        case multiply = "*"
        case divide = "/"
        case floorDivide = "//"
        case modulo = "%"
        case power = "**"
    }

    enum Comparison: String, Sendable {
        case equal = "=="
        case notEqual = "!="
        case less = "<"
        case lessOrEqual = "<="
        case greater = ">"
        case greaterOrEqual = ">="
        case isIn = "in"
        case isNotIn = "not in"
    }

    /// What can follow an operand.
    enum Postfix: Sendable {
        case attribute(Text, Method?, TemplateLocation)
        case element(Expression, TemplateLocation)
        case slice(Expression?, Expression?, Expression?, TemplateLocation)
        case call(Arguments, TemplateLocation)
        case filter(FilterCall)
        case test(Test, Arguments, negated: Bool, TemplateLocation)
    }
}
