// Reads the text of one call, byte by byte; each form has its own.

/// One call as it arrives.
protocol CallReader: Sendable {
    /// Takes the next byte and passes on what it completes.
    mutating func feed(_ byte: UInt8, _ sink: inout ToolCallSink) -> CallStep
    /// Whether the call was begun in the sink.
    var hasStarted: Bool { get }
    /// Whether all of its arguments were passed on.
    var hasAllArguments: Bool { get }
}

/// What a byte did to a call.
enum CallStep {
    /// It may mean something later.
    case held
    /// It, and all before it, went into what the sink was given.
    case taken
    /// It was the last of the call.
    case ended
    /// With it, this is no call.
    case invalid
}

/// Arguments that are passed on as the model writes them: one JSON object.
struct JSONArguments: Sendable {
    private var follower: JSONFollower
    private var byteCount = 0
    private let byteLimit: Int

    init(limits: ToolCallLimits) {
        follower = JSONFollower(depthLimit: limits.depth)
        byteLimit = limits.argumentBytes
    }

    mutating func feed(_ byte: UInt8) -> JSONFollower.Step {
        byteCount += 1
        guard byteCount <= byteLimit, byteCount > 1 || byte == UInt8(ascii: "{") else { return .invalid }
        return follower.feed(byte)
    }
}
