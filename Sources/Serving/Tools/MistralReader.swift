// A call as Mistral's models write it: in a list of objects, or, in the newer ones, as name{…}. Between the newer one's
// name and arguments there may be [CALL_ID]… and [ARGS].

/// Reads what follows [TOOL_CALLS], or a further object of its list.
struct MistralReader: CallReader {
    private enum Place: Sendable {
        case open
        case object(CallObjectReader)
        case name
        case tag
        case callID
        case beforeArguments
        case arguments(JSONArguments)
    }

    private let context: ToolCallContext
    private var place: Place
    private var name: [UInt8] = []
    /// A tag in brackets, without them, or the length of an id.
    private var tag: [UInt8] = []
    private(set) var hasStarted = false
    private(set) var hasAllArguments = false

    init(context: ToolCallContext, opening: CallOpening) {
        self.context = context
        place = if case .opener = opening { .open } else { .object(CallObjectReader(context: context)) }
    }

    mutating func feed(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        switch place {
        case .open:
            if isSpace(byte) { return .held }
            if byte == UInt8(ascii: "[") { return move(.object(CallObjectReader(context: context))) }
            return inName(byte, &sink)
        case .object(var reader):
            place = .open
            let step = reader.feed(byte, &sink)
            hasStarted = reader.hasStarted
            hasAllArguments = reader.hasAllArguments
            place = .object(reader)
            return step
        case .name: return inName(byte, &sink)
        case .tag:
            if byte != UInt8(ascii: "]") {
                tag.append(byte)
                return tag.count <= 8 ? .held : .invalid
            }
            switch String(decoding: tag, as: UTF8.self) {
            case "ARGS": return move(.beforeArguments)
            case "CALL_ID":
                tag.removeAll()
                return move(.callID)
            default: return .invalid
            }
        case .callID:
            if byte == UInt8(ascii: "[") {
                tag.removeAll()
                return move(.tag)
            }
            tag.append(byte)
            return tag.count <= 64 ? .held : .invalid
        case .beforeArguments: return isSpace(byte) ? .held : begin(byte, &sink)
        case .arguments(var arguments):
            place = .open
            let step = arguments.feed(byte)
            place = .arguments(arguments)
            if step == .invalid { return .invalid }
            sink.arguments(byte)
            hasAllArguments = step == .ended
            return hasAllArguments ? .ended : .taken
        }
    }

    private mutating func move(_ next: Place) -> CallStep {
        place = next
        return .held
    }

    private mutating func inName(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        place = .name
        switch byte {
        case UInt8(ascii: "["): return move(.tag)
        case _ where isSpace(byte): return move(.beforeArguments)
        case UInt8(ascii: "{"): return begin(byte, &sink)
        default:
            name.append(byte)
            let isName = PythonReader.isName(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
            return isName && name.count <= context.limits.nameBytes ? .held : .invalid
        }
    }

    private mutating func begin(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        let text = String(decoding: name, as: UTF8.self)
        var arguments = JSONArguments(limits: context.limits)
        guard context.tools.contains(text), arguments.feed(byte) == .inside else { return .invalid }
        place = .arguments(arguments)
        hasStarted = true
        sink.begin(name: text)
        sink.arguments(byte)
        return .taken
    }
}
