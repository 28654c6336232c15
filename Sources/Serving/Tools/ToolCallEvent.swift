// What a tool-call parser makes of the model's text: the text that is meant to be read, and calls in pieces.
//
// The text comes in cuttings of any size, and the same text gives the same result however it is cut. Nothing is lost:
// what turns out not to be a call, or stops being one, is text to be read.

/// Something found in the text, in order.
package enum ToolCallEvent: Sendable, Equatable {
    /// Text outside of calls.
    case content(String)
    /// A call begins; calls are numbered from 0.
    case start(call: Int, id: String, name: String)
    /// A piece of the call's arguments. All pieces of a complete call together are one JSON object.
    case arguments(call: Int, String)
    /// The call's text ended. Not complete: the text broke off or went on in no form that is known.
    case end(call: Int, isComplete: Bool)
}

/// Bounds on what one text may hold; what goes beyond them is content.
package struct ToolCallLimits: Sendable {
    /// Calls in one text.
    package var calls = 128
    /// Bytes of one call's arguments as the model writes them.
    package var argumentBytes = 1 << 20
    /// Bytes that are held back until it is known whether they are a call.
    package var heldBytes = 1 << 16
    /// Bytes of a function's name.
    package var nameBytes = 256
    /// Lists and objects inside one another.
    package var depth = 64

    package init() {}
}

/// What a parser is told about the request it works for.
package struct ToolCallContext: Sendable {
    /// The functions that may be called; what names any other is content.
    package let tools: Set<String>
    package let limits: ToolCallLimits
    /// The id of the call with this number.
    package let makeID: @Sendable (Int) -> String

    package init(
        tools: Set<String>, limits: ToolCallLimits = ToolCallLimits(), makeID: @escaping @Sendable (Int) -> String
    ) {
        self.tools = tools
        self.limits = limits
        self.makeID = makeID
    }
}

/// Finds calls in a text that arrives in pieces.
package protocol ToolCallParser: Sendable {
    /// Takes the next piece.
    mutating func append(_ text: String) -> [ToolCallEvent]
    /// Ends the text.
    mutating func finish() -> [ToolCallEvent]
}

/// Gathers events; neighbouring pieces of one kind become one.
struct ToolCallSink: Sendable {
    private enum Open { case nothing, content, arguments }

    private let makeID: @Sendable (Int) -> String
    private var events: [ToolCallEvent] = []
    private var bytes: [UInt8] = []
    private var open = Open.nothing
    /// Calls begun so far.
    private(set) var callCount = 0

    init(makeID: @escaping @Sendable (Int) -> String) { self.makeID = makeID }

    mutating func content(_ text: some Collection<UInt8>) {
        if text.isEmpty { return }
        if open != .content { close() }
        open = .content
        bytes += text
    }

    mutating func begin(name: String) {
        close()
        events.append(.start(call: callCount, id: makeID(callCount), name: name))
        callCount += 1
    }

    mutating func arguments(_ byte: UInt8) {
        if open != .arguments { close() }
        open = .arguments
        bytes.append(byte)
    }

    mutating func arguments(_ text: some Collection<UInt8>) {
        for byte in text { arguments(byte) }
    }

    mutating func end(isComplete: Bool) {
        close()
        events.append(.end(call: callCount - 1, isComplete: isComplete))
    }

    /// What was gathered since the last call.
    mutating func take() -> [ToolCallEvent] {
        close()
        defer { events.removeAll(keepingCapacity: true) }
        return events
    }

    private mutating func close() {
        let text = String(decoding: bytes, as: UTF8.self)
        switch open {
        case .nothing: return
        case .content: events.append(.content(text))
        case .arguments: events.append(.arguments(call: callCount - 1, text))
        }
        open = .nothing
        bytes.removeAll(keepingCapacity: true)
    }
}
