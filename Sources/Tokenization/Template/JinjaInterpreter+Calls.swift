// Calls: functions, macros, methods. Arguments are bound to parameter names as Python does it.

extension Jinja {
    /// The arguments of a call, evaluated.
    struct CallArguments {
        var positional: [Value] = []
        var named: [(name: String, value: Value)] = []
    }
}

extension Jinja.Interpreter {
    mutating func evaluate(_ arguments: Jinja.Arguments) throws(TemplateError) -> Jinja.CallArguments {
        var result = Jinja.CallArguments()
        if arguments.isEmpty { return result }
        for argument in arguments.positional { result.positional.append(try evaluate(argument)) }
        for argument in arguments.named { result.named.append((argument.name, try evaluate(argument.value))) }
        if let unpacked = arguments.unpacked {
            result.positional += try iterate(try evaluate(unpacked))
        }
        if let unpacked = arguments.unpackedNamed { try unpack(try evaluate(unpacked), into: &result) }
        return result
    }

    private mutating func unpack(
        _ value: Jinja.Value, into arguments: inout Jinja.CallArguments
    ) throws(TemplateError) {
        guard case .mapping(let mapping) = value else { throw mismatch("**", value) }
        var seen = Set(arguments.named.map(\.name))
        for index in mapping.keys.indices {
            guard case .string(let name) = mapping.keys[index] else { throw invalid("argument names must be strings") }
            try spend(bytes: name.count)
            guard seen.insert(name.string).inserted else { throw invalid("an argument was given twice") }
            arguments.named.append((name.string, mapping.values[index]))
        }
    }

    /// The arguments in the order of `parameters`; nil for those not given.
    func bind(
        _ arguments: Jinja.CallArguments, _ parameters: [String], required: Int = 0
    ) throws(TemplateError) -> [Jinja.Value?] {
        guard arguments.positional.count <= parameters.count else {
            throw invalid("takes at most \(parameters.count) arguments, \(arguments.positional.count) were given")
        }
        var bound: [Jinja.Value?] = arguments.positional
        while bound.count < parameters.count { bound.append(nil) }
        for (name, value) in arguments.named {
            guard let index = parameters.firstIndex(of: name) else { throw invalid("unexpected argument '\(name)'") }
            guard bound[index] == nil else { throw invalid("the argument '\(name)' was given twice") }
            bound[index] = value
        }
        for index in 0..<required where bound[index] == nil {
            throw invalid("the argument '\(parameters[index])' is missing")
        }
        return bound
    }

    @inline(never)
    mutating func call(_ callee: Jinja.Value, _ arguments: Jinja.CallArguments) throws(TemplateError) -> Jinja.Value {
        try spend(elements: arguments.positional.count + arguments.named.count)
        switch callee {
        case .macro(let index): return .string(try callMacro(index, arguments))
        case .method(let bound):
            if case .loop(let id) = bound.receiver { return try callLoop(id, bound.method, arguments.positional) }
            return try call(bound.method, on: bound.receiver, arguments)
        case .function(let function): return try call(function, arguments)
        case .loop(let id): return .string(try recur(id, arguments))
        case .undefined(let absence): throw invalid(absence.reason)
        default: throw invalid("'\(callee.typeName)' object is not callable")
        }
    }

    // MARK: Macros

    @inline(never)
    private mutating func callMacro(
        _ index: Int, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Text {
        let (macro, mark) = macro(index)
        let hidden = try hideScopes(after: mark)
        let scope = enterScope()
        try bindParameters(of: macro, arguments)
        let (text, _) = try capture(macro.body)
        leaveScope(scope)
        showScopes(hidden)
        return text
    }

    private mutating func bindParameters(
        of macro: Jinja.Macro, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) {
        var named = arguments.named
        var missing: [Jinja.Macro.Parameter] = []
        for (position, parameter) in macro.parameters.enumerated() {
            if position < arguments.positional.count {
                bind(parameter.symbol, to: arguments.positional[position])
            } else if let given = named.firstIndex(where: { $0.name == parameter.name }) {
                bind(parameter.symbol, to: named.remove(at: given).value)
            } else {
                bind(parameter.symbol, to: .undefined(.parameter(parameter.name)))
                missing.append(parameter)
            }
        }
        if let caller = macro.caller {
            let given = named.firstIndex { $0.name == "caller" }
            bind(caller, to: given.map { named.remove(at: $0).value } ?? .undefined(.name("caller")))
        }
        let surplus = Array(arguments.positional.dropFirst(macro.parameters.count))
        if let extra = macro.extraPositional {
            bind(extra, to: try sequence(.tuple, surplus))
        } else if !surplus.isEmpty {
            throw invalid("macro '\(macro.name)' takes not more than \(macro.parameters.count) arguments")
        }
        if let extra = macro.extraNamed {
            bind(extra, to: try mapping(named.map { (.text($0.name), $0.value) }))
        } else if let unknown = named.first {
            throw invalid("macro '\(macro.name)' takes no argument '\(unknown.name)'")
        }
        // A default may refer to the parameters before it.
        for parameter in missing {
            if let fallback = parameter.fallback { bind(parameter.symbol, to: try evaluate(fallback)) }
        }
    }

    @inline(never)
    private mutating func recur(_ id: Int, _ arguments: Jinja.CallArguments) throws(TemplateError) -> Jinja.Text {
        let loop = loops[id]
        guard loop.source.isRecursive else { throw invalid("this loop is not recursive, so it cannot be called") }
        let bound = try bind(arguments, ["iterable"], required: 1)
        return try captureLoop(loop.source, over: bound[0] ?? .none, depth: loop.depth + 1)
    }

    // MARK: Functions

    @inline(never)
    private mutating func call(
        _ function: Jinja.Function, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        switch function {
        case .range: return try range(arguments)
        case .dict: return try mapping(try members(arguments))
        case .namespace:
            var attributes: [Jinja.Text: Jinja.Value] = [:]
            for (key, value) in try members(arguments) {
                guard case .string(let name) = key else { continue }
                attributes[name] = value
            }
            namespaces.append(attributes)
            return .namespace(namespaces.count - 1)
        case .raiseException:
            let bound = try bind(arguments, ["message"], required: 1)
            let message = try text(of: bound[0] ?? .none)
            throw .raised(message: String(message.string.unicodeScalars.prefix(1000)), location)
        case .strftimeNow:
            let bound = try bind(arguments, ["format"], required: 1)
            guard case .string(let format)? = bound[0] else { throw invalid("strftime_now needs a format") }
            guard let now else { throw invalid("strftime_now has no clock to read") }
            try spend(bytes: format.count)
            guard let text = now.formatted(format) else {
                throw invalid("strftime_now has no such conversion as this format uses")
            }
            try checkRoom(for: text.count)
            return .string(text)
        }
    }

    /// The members that `dict(...)` and `namespace(...)` are made of.
    private mutating func members(
        _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> [(key: Jinja.Value, value: Jinja.Value)] {
        guard arguments.positional.count <= 1 else { throw invalid("takes at most one positional argument") }
        var members: [(key: Jinja.Value, value: Jinja.Value)] = []
        if let source = arguments.positional.first {
            if case .mapping(let mapping) = source {
                members = Array(zip(mapping.keys, mapping.values)).map { ($0.0, $0.1) }
            } else {
                for pair in try iterate(source) {
                    let pair = try iterate(pair)
                    guard pair.count == 2 else { throw invalid("a mapping is made of pairs") }
                    members.append((pair[0], pair[1]))
                }
            }
        }
        for (name, value) in arguments.named { members.append((.text(name, trusted: true), value)) }
        return members
    }

    private mutating func range(_ arguments: Jinja.CallArguments) throws(TemplateError) -> Jinja.Value {
        guard arguments.named.isEmpty else { throw invalid("range takes no named arguments") }
        var bounds: [Int] = []
        for argument in arguments.positional {
            guard let bound = argument.integer else { throw mismatch("range", argument) }
            bounds.append(bound)
        }
        guard (1...3).contains(bounds.count) else { throw invalid("range takes one to three integers") }
        let start = bounds.count == 1 ? 0 : bounds[0]
        let end = bounds.count == 1 ? bounds[0] : bounds[1]
        let step = bounds.count == 3 ? bounds[2] : 1
        guard step != 0 else { throw invalid("the step of a range cannot be zero") }
        let (distance, overflow) =
            step > 0 ? end.subtractingReportingOverflow(start) : start.subtractingReportingOverflow(end)
        if start == end || (step > 0) == (end < start) {
            return .range(Jinja.Progression(start: start, step: step, count: 0))
        }
        guard !overflow else { throw exceeded(.elements) }
        let count = UInt(distance - 1) / step.magnitude + 1
        guard count <= UInt(limits.elements) else { throw exceeded(.elements) }
        return .range(Jinja.Progression(start: start, step: step, count: Int(count)))
    }
}
