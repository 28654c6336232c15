// A call as a Python expression: name(key=value, …), the values literals. They become JSON one by one, when each is
// complete; name(**{…}) passes a JSON object through, which is how a constrained call is written.

/// Reads one call of a list of calls.
struct PythonReader: CallReader {
    private enum Place: Sendable {
        case open
        case beforeName
        case name
        case beforeKey
        case key
        case beforeEquals
        case value
        case secondStar
        case object(JSONArguments)
        case beforeClose
    }

    /// Follows a value to its end.
    private struct Nesting: Sendable {
        var depth = 0
        var quote: UInt8?
        var isEscaped = false

        /// Whether the byte ends the value instead of belonging to it.
        mutating func ends(_ byte: UInt8) -> Bool {
            if let quote {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == quote {
                    self.quote = nil
                }
                return false
            }
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "'"): quote = byte
            case UInt8(ascii: "("), UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
            case UInt8(ascii: ")"), UInt8(ascii: "]"), UInt8(ascii: "}"):
                if depth == 0 { return true }
                depth -= 1
            case UInt8(ascii: ","): return depth == 0
            default: break
            }
            return false
        }
    }

    private let context: ToolCallContext
    private var place: Place
    private var name: [UInt8] = []
    private var key: [UInt8] = []
    private var keys: Set<String> = []
    private var value: [UInt8] = []
    private var nesting = Nesting()
    private var byteCount = 0
    private(set) var hasStarted = false
    private(set) var hasAllArguments = false

    init(context: ToolCallContext, opening: CallOpening) {
        self.context = context
        place = if case .separator = opening { .beforeName } else { .open }
    }

    /// Whether a name may hold this byte; ASCII only.
    static func isName(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "_") || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    mutating func feed(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        byteCount += 1
        guard byteCount <= context.limits.argumentBytes else { return .invalid }
        switch place {
        case .open, .beforeName, .beforeKey, .beforeEquals, .secondStar, .beforeClose:
            return isSpace(byte) ? .held : structure(byte, &sink)
        case .name:
            if byte == UInt8(ascii: "(") {
                return context.tools.contains(String(decoding: name, as: UTF8.self)) ? move(.beforeKey) : .invalid
            }
            return append(byte, to: \.name, Self.isName(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-"))
        case .key:
            if isSpace(byte) { return move(.beforeEquals) }
            if byte == UInt8(ascii: "=") { return beginValue() }
            return append(byte, to: \.key, Self.isName(byte))
        case .value:
            if nesting.ends(byte) { return endValue(byte, &sink) }
            value.append(byte)
            return value.count <= context.limits.heldBytes ? .held : .invalid
        case .object(var arguments):
            place = .open
            let step = arguments.feed(byte)
            place = .object(arguments)
            if step == .invalid { return .invalid }
            if !hasStarted { start(&sink) }
            sink.arguments(byte)
            if step == .ended {
                hasAllArguments = true
                place = .beforeClose
            }
            return .taken
        }
    }

    private mutating func move(_ next: Place) -> CallStep {
        place = next
        return .held
    }

    private mutating func append(
        _ byte: UInt8, to text: WritableKeyPath<PythonReader, [UInt8]>, _ isRight: Bool
    ) -> CallStep {
        self[keyPath: text].append(byte)
        return isRight && self[keyPath: text].count <= context.limits.nameBytes ? .held : .invalid
    }

    private mutating func structure(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        switch (place, byte) {
        case (.open, UInt8(ascii: "[")): return move(.beforeName)
        case (.beforeName, _):
            place = .name
            return append(byte, to: \.name, Self.isName(byte))
        case (.beforeKey, UInt8(ascii: ")")), (.beforeClose, UInt8(ascii: ")")):
            if !hasStarted {
                start(&sink)
                sink.arguments("{".utf8)
            }
            if !hasAllArguments { sink.arguments("}".utf8) }
            hasAllArguments = true
            return .ended
        case (.beforeKey, UInt8(ascii: "*")): return hasStarted ? .invalid : move(.secondStar)
        case (.beforeKey, _):
            key.removeAll(keepingCapacity: true)
            place = .key
            return append(byte, to: \.key, Self.isName(byte))
        case (.beforeEquals, UInt8(ascii: "=")): return beginValue()
        case (.secondStar, UInt8(ascii: "*")): return move(.object(JSONArguments(limits: context.limits)))
        default: return .invalid
        }
    }

    private mutating func beginValue() -> CallStep {
        guard keys.insert(String(decoding: key, as: UTF8.self)).inserted else { return .invalid }
        value.removeAll(keepingCapacity: true)
        nesting = Nesting()
        return move(.value)
    }

    private mutating func endValue(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        guard byte != UInt8(ascii: "]"), byte != UInt8(ascii: "}"),
            let json = PythonLiteral.json(value, depthLimit: context.limits.depth)
        else { return .invalid }
        if hasStarted {
            sink.arguments(", ".utf8)
        } else {
            start(&sink)
            sink.arguments("{".utf8)
        }
        sink.arguments("\"".utf8)
        sink.arguments(key)
        sink.arguments("\": ".utf8)
        sink.arguments(json)
        place = .beforeKey
        if byte == UInt8(ascii: ",") { return .taken }
        sink.arguments("}".utf8)
        hasAllArguments = true
        return .ended
    }

    private mutating func start(_ sink: inout ToolCallSink) {
        hasStarted = true
        sink.begin(name: String(decoding: name, as: UTF8.self))
    }
}
