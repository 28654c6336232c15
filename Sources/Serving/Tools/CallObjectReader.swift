// A call written as a JSON object: {"name": …, "arguments": {…}}, with `parameters` for `arguments` in some models.
//
// The arguments are passed on while they arrive if the name came first. An object with any other member, or that names
// no known function, is no call, and that shows early: an answer that happens to be JSON is held back for a few bytes.

import JSON

/// Reads {"name": …, "arguments": …}.
struct CallObjectReader: CallReader {
    private enum Place: Sendable {
        case open
        case firstKey
        case key
        case nextKey
        case colon
        case value
        case text(isEscaped: Bool)
        case arguments(JSONArguments)
        case argumentsText(isEscaped: Bool)
        case null(left: Int)
        case afterValue
    }

    private enum Member: String, Sendable {
        case name, arguments, parameters, type, id

        var isArguments: Bool { self == .arguments || self == .parameters }
    }

    private let context: ToolCallContext
    private var place: Place
    private var member = Member.type
    /// The string being read, as written, quotes included.
    private var raw: [UInt8] = []
    private var seen: Set<Member> = []
    private var name: String?
    /// Arguments that came before the name.
    private var heldArguments: [UInt8]?
    private(set) var hasStarted = false
    private(set) var hasAllArguments = false

    init(context: ToolCallContext) {
        self.context = context
        place = .open
    }

    mutating func feed(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        switch place {
        case .open, .firstKey, .nextKey, .colon, .value, .afterValue:
            return isSpace(byte) ? .held : structure(byte, &sink)
        case .key:
            if byte != UInt8(ascii: "\"") {
                raw.append(byte)
                return raw.count <= 10 ? .held : .invalid
            }
            guard let known = Member(rawValue: String(decoding: raw, as: UTF8.self)), seen.insert(known).inserted
            else { return .invalid }
            if known.isArguments, seen.isSuperset(of: [.arguments, .parameters]) { return .invalid }
            member = known
            return move(.colon)
        case .text(let isEscaped): return inText(byte, isEscaped, &sink)
        case .arguments(var arguments):
            place = .open
            let step = arguments.feed(byte)
            place = .arguments(arguments)
            return inArguments(byte, step, &sink)
        case .argumentsText(let isEscaped): return inArgumentsText(byte, isEscaped, &sink)
        case .null(let left):
            guard byte == Array("null".utf8)[4 - left] else { return .invalid }
            if left > 1 { return move(.null(left: left - 1)) }
            heldArguments = Array("{}".utf8)
            return move(.afterValue)
        }
    }

    private mutating func move(_ next: Place) -> CallStep {
        place = next
        return .held
    }

    private mutating func structure(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        switch (place, byte) {
        case (.open, UInt8(ascii: "{")): return move(.firstKey)
        case (.firstKey, UInt8(ascii: "\"")), (.nextKey, UInt8(ascii: "\"")):
            raw.removeAll(keepingCapacity: true)
            return move(.key)
        case (.colon, UInt8(ascii: ":")): return move(.value)
        case (.value, _): return beginValue(byte, &sink)
        case (.afterValue, UInt8(ascii: ",")): return move(.nextKey)
        case (.afterValue, UInt8(ascii: "}")):
            guard let name else { return .invalid }
            if !hasStarted { start(name, &sink) }
            if !hasAllArguments { sink.arguments("{}".utf8) }
            hasAllArguments = true
            return .ended
        default: return .invalid
        }
    }

    private mutating func beginValue(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep {
        raw = [byte]
        guard member.isArguments else {
            return byte == UInt8(ascii: "\"") ? move(.text(isEscaped: false)) : .invalid
        }
        switch byte {
        case UInt8(ascii: "{"):
            var arguments = JSONArguments(limits: context.limits)
            let step = arguments.feed(byte)
            place = .arguments(arguments)
            if let name, !hasStarted { start(name, &sink) }
            if name == nil { heldArguments = [] }
            return inArguments(byte, step, &sink)
        case UInt8(ascii: "\""): return move(.argumentsText(isEscaped: false))
        case UInt8(ascii: "n"): return move(.null(left: 3))
        default: return .invalid
        }
    }

    private mutating func inText(_ byte: UInt8, _ isEscaped: Bool, _ sink: inout ToolCallSink) -> CallStep {
        raw.append(byte)
        guard raw.count <= context.limits.nameBytes + 2 else { return .invalid }
        if isEscaped || byte != UInt8(ascii: "\"") {
            return move(.text(isEscaped: !isEscaped && byte == UInt8(ascii: "\\")))
        }
        place = .afterValue
        guard let text = decoded(raw) else { return .invalid }
        guard member == .name else { return .held }
        guard context.tools.contains(text) else { return .invalid }
        name = text
        guard let heldArguments else { return .held }
        start(text, &sink)
        sink.arguments(heldArguments)
        hasAllArguments = true
        return .taken
    }

    private mutating func inArguments(
        _ byte: UInt8, _ step: JSONFollower.Step, _ sink: inout ToolCallSink
    ) -> CallStep {
        if step == .invalid { return .invalid }
        if step == .ended { place = .afterValue }
        if hasStarted {
            sink.arguments(byte)
            hasAllArguments = step == .ended
            return .taken
        }
        heldArguments?.append(byte)
        return (heldArguments?.count ?? 0) <= context.limits.heldBytes ? .held : .invalid
    }

    /// Some models put the arguments into a string.
    private mutating func inArgumentsText(
        _ byte: UInt8, _ isEscaped: Bool, _ sink: inout ToolCallSink
    ) -> CallStep {
        raw.append(byte)
        guard raw.count <= context.limits.heldBytes else { return .invalid }
        if isEscaped || byte != UInt8(ascii: "\"") {
            return move(.argumentsText(isEscaped: !isEscaped && byte == UInt8(ascii: "\\")))
        }
        place = .afterValue
        guard let text = decoded(raw) else { return .invalid }
        var follower = JSONFollower(depthLimit: context.limits.depth)
        let bytes = Array(text.utf8)
        guard bytes.first == UInt8(ascii: "{") else { return .invalid }
        for (index, byte) in bytes.enumerated() {
            guard follower.feed(byte) == (index == bytes.count - 1 ? .ended : .inside) else { return .invalid }
        }
        heldArguments = bytes
        guard let name else { return .held }
        start(name, &sink)
        sink.arguments(bytes)
        hasAllArguments = true
        return .taken
    }

    private mutating func start(_ name: String, _ sink: inout ToolCallSink) {
        hasStarted = true
        sink.begin(name: name)
    }

    /// The text that a JSON string, quotes included, spells.
    private func decoded(_ literal: [UInt8]) -> String? {
        do throws(JSONError) {
            if case .string(let text) = try JSONParser.parse(literal) { return text }
            return nil
        } catch {
            return nil
        }
    }
}
