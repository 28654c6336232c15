// Finds calls in text, for every form: where they may begin, and what stands around them, is said by a `CallSyntax`.
//
// Bytes that may yet turn out to be a call are kept; they are passed on as content the moment they cannot be one. What
// was begun is not taken back: if the text of a call goes wrong, the call ends incomplete and the rest is content.

/// What stands around the calls of a form.
struct CallSyntax: Sendable {
    /// Each begins a call wherever it stands.
    var openers: [[UInt8]] = []
    /// The first byte of a call that needs no opener at the start of the text.
    var firstByte: UInt8?
    /// Stand after a call and are no content.
    var closers: [[UInt8]] = []
    /// Stands between two calls that need no opener; no content if a call follows.
    var separators: [UInt8] = []
    /// Whether calls need one.
    var needsSeparator = true
    /// Whether this byte begins another call.
    var follows: @Sendable (UInt8) -> Bool = { _ in false }
    /// Reads the call that begins in one of these ways.
    let reader: @Sendable (CallOpening) -> any CallReader
}

/// How a call begins.
enum CallOpening: Sendable {
    case opener
    case firstByte
    case separator
}

/// The parser of all forms.
struct CallTextParser: ToolCallParser {
    private enum Place: Sendable {
        case between(Gap)
        case content
        /// If it is none, a call may begin `resume` bytes from the start on.
        case call(any CallReader, resume: Int)
        /// Nothing is looked for any more.
        case rest
    }

    /// What came before the place where a call may begin; white space aside.
    private enum Gap {
        /// Nothing at all.
        case beginning
        case call
        case separator
        case closer
    }

    private let syntax: CallSyntax
    private let limits: ToolCallLimits
    private var sink: ToolCallSink
    private var place = Place.between(.beginning)
    /// What is not known yet to be content or part of a call.
    private var bytes: [UInt8] = []
    /// Bytes of it that were looked at.
    private var position = 0
    /// Bytes of it that were passed on.
    private var start = 0

    init(_ syntax: CallSyntax, context: ToolCallContext) {
        self.syntax = syntax
        limits = context.limits
        sink = ToolCallSink(makeID: context.makeID)
    }

    package mutating func append(_ text: String) -> [ToolCallEvent] {
        bytes.removeFirst(start)
        position -= start
        start = 0
        bytes += text.utf8
        while advance(isLast: false) {}
        return sink.take()
    }

    package mutating func finish() -> [ToolCallEvent] {
        while advance(isLast: true) {}
        return sink.take()
    }

    /// Makes one move; false when there is nothing to do without more text.
    private mutating func advance(isLast: Bool) -> Bool {
        switch place {
        case .between(let gap): return advanceBetween(gap, isLast: isLast)
        case .content: return advanceContent(isLast: isLast)
        case .call(let reader, let resume):
            // One owner only, so that it is changed in place.
            place = .content
            return advanceCall(reader, resume: resume, isLast: isLast)
        case .rest:
            position = bytes.count
            passOn()
            return false
        }
    }

    /// Passes on, as content, what was looked at.
    private mutating func passOn() {
        sink.content(bytes[start..<position])
        start = position
    }

    // MARK: Between calls

    private mutating func advanceBetween(_ gap: Gap, isLast: Bool) -> Bool {
        while position < bytes.count, isSpace(bytes[position]) { position += 1 }
        guard position < bytes.count else {
            // White space is content unless it follows a call.
            if isLast, gap == .beginning || !bytes[start...].allSatisfy(isSpace) { passOn() }
            return false
        }
        let closers = gap == .call || gap == .closer ? syntax.closers : []
        for closer in closers where stands(closer) == .whole {
            position += closer.count
            start = position
            place = .between(.closer)
            return true
        }
        for opener in syntax.openers where stands(opener) == .whole {
            position += opener.count
            return beginCall(.opener)
        }
        if !isLast, (syntax.openers + closers).contains(where: { stands($0) == .part }) { return false }
        let byte = bytes[position]
        if gap == .call, syntax.separators.contains(byte) {
            position += 1
            place = .between(.separator)
            return true
        }
        if gap == .beginning, byte == syntax.firstByte { return beginCall(.firstByte) }
        if gap == .separator || gap == .call && !syntax.needsSeparator, syntax.follows(byte) {
            return beginCall(.separator)
        }
        place = .content
        return true
    }

    private enum Standing { case whole, part, no }

    /// Whether a marker stands at the position, as far as the text goes.
    private func stands(_ marker: [UInt8]) -> Standing {
        let seen = bytes[position...].prefix(marker.count)
        guard marker.starts(with: seen) else { return .no }
        return seen.count == marker.count ? .whole : .part
    }

    /// Begins to read a call at the position.
    private mutating func beginCall(_ opening: CallOpening) -> Bool {
        place = sink.callCount < limits.calls ? .call(syntax.reader(opening), resume: position - start) : .rest
        return true
    }

    // MARK: Content

    private mutating func advanceContent(isLast: Bool) -> Bool {
        while position < bytes.count {
            for opener in syntax.openers where bytes[position] == opener[0] {
                switch stands(opener) {
                case .no: continue
                case .whole:
                    passOn()
                    position += opener.count
                    return beginCall(.opener)
                case .part:
                    if isLast { continue }
                    passOn()
                    return false
                }
            }
            position += 1
        }
        passOn()
        return false
    }

    // MARK: In a call

    private mutating func advanceCall(_ reader: any CallReader, resume: Int, isLast: Bool) -> Bool {
        var reader = reader
        while position < bytes.count {
            let step = reader.feed(bytes[position], &sink)
            if step == .invalid { return giveUp(reader, resume) }
            position += 1
            if step == .taken || step == .ended { start = position }
            if step == .ended {
                sink.end(isComplete: true)
                place = .between(.call)
                return true
            }
        }
        if isLast { return giveUp(reader, resume) }
        place = .call(reader, resume: resume)
        return false
    }

    /// What was kept is content, in which another call may begin.
    private mutating func giveUp(_ reader: any CallReader, _ resume: Int) -> Bool {
        if reader.hasStarted { sink.end(isComplete: reader.hasAllArguments) }
        position = reader.hasStarted ? start : start + resume
        place = .content
        return true
    }
}
