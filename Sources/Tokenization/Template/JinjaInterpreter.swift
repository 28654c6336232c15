// Runs a program: statements in this file, expressions and calls in the two beside it.
// A name's value lives in one slot; entering a scope marks a log, and leaving it puts the former values back. A macro
// sees the scope it was defined in: for the call, the log's later entries are swapped out.

extension Jinja {
    /// One rendering of one program.
    struct Interpreter {
        let program: Program
        let limits: TemplateLimits
        /// The clock that `strftime_now` reads, if the caller gave one.
        let now: TemplateClock?
        /// What is left of the step budget.
        private(set) var stepsLeft: Int
        private var depth = 0
        /// The place in the source that errors name.
        var location = TemplateLocation(line: 1, column: 1)
        /// Where text goes: the rendering, or what a macro or block captures.
        private(set) var output = Text.empty

        private var slots: [Value?]
        private var log: [(symbol: Int, former: Value?)] = []
        private var scopeDepth = 0
        var namespaces: [[Text: Value]] = []
        var loops: [LoopState] = []
        private var macros: [(macro: Macro, mark: Int, scopeDepth: Int)] = []
        private let loopSymbol: Int?

        /// The state behind the name `loop`.
        struct LoopState {
            let items: [Value]
            var index = 0
            let depth: Int
            var lastChanged: [Value]?
            /// The loop to run again when it is called, and the scope it stands in.
            let source: Loop
        }

        enum Flow { case next, breakLoop, continueLoop }

        init(program: Program, limits: TemplateLimits, now: TemplateClock?) {
            self.program = program
            self.limits = limits
            self.now = now
            stepsLeft = limits.steps
            slots = Array(repeating: nil, count: program.names.count)
            loopSymbol = program.names.firstIndex(of: "loop")
            for (symbol, name) in program.names.enumerated() {
                if let function = Function(rawValue: name) { slots[symbol] = .function(function) }
            }
        }

        /// Gives the caller's values to the names that the program mentions.
        mutating func define(_ name: String, _ value: Value) {
            if let symbol = program.names.firstIndex(of: name) { slots[symbol] = value }
        }

        /// Runs the program and returns its output.
        mutating func run() throws(TemplateError) -> Text {
            _ = try execute(program.body)
            return output
        }
    }
}

// MARK: - Budgets

extension Jinja.Interpreter {
    @inline(__always)
    mutating func spend(_ steps: Int = 1) throws(TemplateError) {
        stepsLeft -= min(steps, stepsLeft + 1)
        if stepsLeft < 0 { throw exceeded(.steps) }
    }

    /// Pays for touching `count` bytes of text.
    mutating func spend(bytes count: Int) throws(TemplateError) { try spend(count / 256) }

    /// Pays for work on each character of a text by Unicode's properties, many times that of touching it.
    mutating func spend(characters text: Jinja.Text) throws(TemplateError) { try spend(text.count / 16) }

    /// Pays for touching `count` elements.
    mutating func spend(elements count: Int) throws(TemplateError) { try spend(count / 8) }

    /// Pays for walking all of a value.
    mutating func spend(walking value: Jinja.Value) throws(TemplateError) { try spend(value.weight / 8) }

    mutating func enter() throws(TemplateError) {
        try spend()
        guard depth < limits.recursion else { throw exceeded(.recursion) }
        depth += 1
    }

    mutating func leave() { depth -= 1 }

    @inline(never)
    func exceeded(_ budget: TemplateError.Budget) -> TemplateError {
        let limit =
            switch budget {
            case .source: limits.sourceBytes
            case .steps: limits.steps
            case .output: limits.textBytes
            case .nesting: limits.nesting
            case .recursion: limits.recursion
            case .elements: limits.elements
            }
        return .exceeded(budget, limit: limit, location)
    }

    @inline(never)
    func invalid(_ reason: String) -> TemplateError {
        .invalid(location, reason: reason.count > 400 ? String(reason.prefix(400)) + "..." : reason)
    }

    /// Checks that another `count` bytes fit after `present` ones.
    func checkRoom(for count: Int, after present: Int = 0) throws(TemplateError) {
        guard count <= limits.textBytes - present else { throw exceeded(.output) }
    }

    /// A collection that keeps to the limits on length and nesting.
    mutating func sequence(
        _ kind: Jinja.Sequence.Kind, _ elements: [Jinja.Value]
    ) throws(TemplateError) -> Jinja.Value {
        guard elements.count <= limits.elements else { throw exceeded(.elements) }
        try spend(elements: elements.count)
        let sequence = Jinja.Sequence(kind, elements)
        guard sequence.depth <= limits.nesting else { throw exceeded(.nesting) }
        return .sequence(sequence)
    }

    mutating func mapping(_ members: [(key: Jinja.Value, value: Jinja.Value)]) throws(TemplateError) -> Jinja.Value {
        guard members.count <= limits.elements else { throw exceeded(.elements) }
        try spend(elements: members.count)
        for member in members { try checkKey(member.key) }
        let mapping = Jinja.Mapping(members)
        guard mapping.depth <= limits.nesting else { throw exceeded(.nesting) }
        return .mapping(mapping)
    }

    /// Checks that a value can be the key of a mapping, and pays for hashing it.
    mutating func checkKey(_ key: Jinja.Value) throws(TemplateError) {
        guard key.isHashable else { throw invalid("a \(key.typeName) cannot be the key of a mapping") }
        try spend(walking: key)
    }

    /// Appends to the output.
    mutating func write(_ text: Jinja.Text) throws(TemplateError) {
        try spend(bytes: text.count)
        try checkRoom(for: text.count, after: output.count)
        output.append(text)
    }

    /// Runs `body` and returns what it wrote, with how it ended.
    mutating func capture(_ body: [Jinja.Statement]) throws(TemplateError) -> (text: Jinja.Text, flow: Flow) {
        let outer = output
        output = .empty
        let flow = try execute(body)
        let text = output
        output = outer
        return (text, flow)
    }
}

extension Jinja.Interpreter {
    /// What a loop writes when it calls itself.
    mutating func captureLoop(
        _ loop: Jinja.Loop, over value: Jinja.Value, depth: Int
    ) throws(TemplateError) -> Jinja.Text {
        try enter()
        defer { leave() }
        let outer = output
        output = .empty
        _ = try run(loop, over: value, depth: depth)
        let text = output
        output = outer
        return text
    }
}

// MARK: - Names

extension Jinja.Interpreter {
    @inline(__always)
    func value(of symbol: Int) -> Jinja.Value {
        slots[symbol] ?? .undefined(.name(program.names[symbol]))
    }

    mutating func bind(_ symbol: Int, to value: Jinja.Value) {
        if scopeDepth > 0 { log.append((symbol, slots[symbol])) }
        slots[symbol] = value
    }

    /// Enters a scope and returns the mark to leave it by.
    mutating func enterScope() -> Int {
        scopeDepth += 1
        return log.count
    }

    mutating func leaveScope(_ mark: Int) {
        scopeDepth -= 1
        while log.count > mark, let entry = log.popLast() { slots[entry.symbol] = entry.former }
    }

    /// Puts back the values that names had when the log was `mark` long, and returns what to show again.
    mutating func hideScopes(after mark: Int) throws(TemplateError) -> [(symbol: Int, former: Jinja.Value?)] {
        guard log.count > mark else { return [] }
        try spend(elements: log.count - mark)
        var hidden: [(symbol: Int, former: Jinja.Value?)] = []
        for entry in log[mark...].reversed() {
            hidden.append((entry.symbol, slots[entry.symbol]))
            slots[entry.symbol] = entry.former
        }
        return hidden
    }

    mutating func showScopes(_ hidden: [(symbol: Int, former: Jinja.Value?)]) {
        for entry in hidden.reversed() { slots[entry.symbol] = entry.former }
    }

    mutating func assign(_ value: Jinja.Value, to target: Jinja.Target) throws(TemplateError) {
        switch target {
        case .name(let symbol):
            bind(symbol, to: value)
        case .attribute(let symbol, let name, let place):
            location = place
            guard case .namespace(let index) = self.value(of: symbol) else {
                throw invalid("cannot assign an attribute of something that is not a namespace")
            }
            namespaces[index][name] = value
        case .tuple(let targets, let place):
            location = place
            let elements = try iterate(value)
            guard elements.count == targets.count else {
                throw invalid("cannot unpack \(elements.count) values into \(targets.count) names")
            }
            for index in targets.indices { try assign(elements[index], to: targets[index]) }
        }
    }
}

// MARK: - Statements

extension Jinja.Interpreter {
    mutating func execute(_ body: [Jinja.Statement]) throws(TemplateError) -> Flow {
        for statement in body {
            let flow = try execute(statement)
            if flow != .next { return flow }
        }
        return .next
    }

    private mutating func execute(_ statement: Jinja.Statement) throws(TemplateError) -> Flow {
        try enter()
        defer { leave() }
        switch statement {
        case .text(let text): try write(text)
        case .output(let expression): try writeValue(of: expression)
        case .assign(let target, let expression): try assign(try evaluate(expression), to: target)
        case .assignBlock(let target, let filters, let body):
            return try assignBlock(target, filters, body)
        case .branch(let branches, let otherwise):
            for branch in branches where try evaluate(branch.condition).isTrue { return try execute(branch.body) }
            return try execute(otherwise)
        case .loop(let loop): return try run(loop)
        case .breakLoop: return .breakLoop
        case .continueLoop: return .continueLoop
        case .macro(let macro): bind(macro.symbol, to: define(macro))
        case .call(let block): try write(try call(block))
        case .filter(let filters, let body): return try writeFiltered(body, filters)
        case .with(let bindings, let body): return try executeWith(bindings, body)
        case .scope(let body): return try executeScope(body)
        }
        return .next
    }

    @inline(never)
    private mutating func writeValue(of expression: Jinja.Expression) throws(TemplateError) {
        let value = try evaluate(expression)
        try write(try text(of: value))
    }

    @inline(never)
    private mutating func executeScope(_ body: [Jinja.Statement]) throws(TemplateError) -> Flow {
        let mark = enterScope()
        let flow = try execute(body)
        leaveScope(mark)
        return flow
    }

    @inline(never)
    private mutating func executeWith(
        _ bindings: [(target: Jinja.Target, value: Jinja.Expression)], _ body: [Jinja.Statement]
    ) throws(TemplateError) -> Flow {
        // All values are evaluated outside of the scope that they are bound in.
        var values: [Jinja.Value] = []
        for binding in bindings { values.append(try evaluate(binding.value)) }
        let mark = enterScope()
        for index in bindings.indices { try assign(values[index], to: bindings[index].target) }
        let flow = try execute(body)
        leaveScope(mark)
        return flow
    }

    @inline(never)
    private mutating func assignBlock(
        _ target: Jinja.Target, _ filters: [Jinja.FilterCall], _ body: [Jinja.Statement]
    ) throws(TemplateError) -> Flow {
        let mark = enterScope()
        let (text, flow) = try capture(body)
        leaveScope(mark)
        guard flow == .next else { return flow }
        try assign(try apply(filters, to: .string(text)), to: target)
        return .next
    }

    @inline(never)
    private mutating func writeFiltered(
        _ body: [Jinja.Statement], _ filters: [Jinja.FilterCall]
    ) throws(TemplateError) -> Flow {
        let mark = enterScope()
        let (text, flow) = try capture(body)
        leaveScope(mark)
        guard flow == .next else { return flow }
        try write(try self.text(of: try apply(filters, to: .string(text))))
        return .next
    }

    private mutating func apply(
        _ filters: [Jinja.FilterCall], to value: Jinja.Value
    ) throws(TemplateError) -> Jinja.Value {
        var value = value
        for filter in filters { value = try apply(filter, to: value) }
        return value
    }
}

// MARK: - Loops

extension Jinja.Interpreter {
    @inline(never)
    private mutating func run(_ loop: Jinja.Loop) throws(TemplateError) -> Flow {
        let value = try evaluate(loop.iterated)
        location = loop.location
        return try run(loop, over: value, depth: 1)
    }

    /// Runs a loop over the elements of `value`; `depth` is how deep a recursive loop has called itself.
    mutating func run(_ loop: Jinja.Loop, over value: Jinja.Value, depth: Int) throws(TemplateError) -> Flow {
        var items = try iterate(value)
        if let condition = loop.condition { items = try select(items, loop.target, condition) }
        // `break` in the `else` of a loop is meant for the loop around it.
        if items.isEmpty { return try executeScope(loop.otherwise) }
        let index = loops.count
        loops.append(LoopState(items: items, depth: depth, source: loop))
        for position in items.indices {
            loops[index].index = position
            let mark = enterScope()
            if let loopSymbol { bind(loopSymbol, to: .loop(index)) }
            try assign(items[position], to: loop.target)
            let flow = try execute(loop.body)
            leaveScope(mark)
            if flow == .breakLoop { break }
        }
        // A value may still name this loop, so it keeps its place but gives back its items.
        loops[index] = LoopState(items: [], depth: depth, source: loop)
        return .next
    }

    private mutating func select(
        _ items: [Jinja.Value], _ target: Jinja.Target, _ condition: Jinja.Expression
    ) throws(TemplateError) -> [Jinja.Value] {
        var selected: [Jinja.Value] = []
        for item in items {
            let mark = enterScope()
            try assign(item, to: target)
            if try evaluate(condition).isTrue { selected.append(item) }
            leaveScope(mark)
        }
        return selected
    }
}

// MARK: - Macros

extension Jinja.Interpreter {
    mutating func define(_ macro: Jinja.Macro) -> Jinja.Value {
        macros.append((macro, log.count, scopeDepth))
        return .macro(macros.count - 1)
    }

    func macro(_ index: Int) -> (macro: Jinja.Macro, mark: Int) { (macros[index].macro, macros[index].mark) }

    @inline(never)
    private mutating func call(_ block: Jinja.CallBlock) throws(TemplateError) -> Jinja.Text {
        let callee = try evaluate(block.callee)
        var arguments = try evaluate(block.arguments)
        location = block.location
        arguments.named.append(("caller", define(block.macro)))
        return try text(of: try call(callee, arguments))
    }
}
