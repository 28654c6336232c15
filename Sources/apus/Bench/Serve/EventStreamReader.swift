// Reads the events of a streamed completion as their bytes arrive, without building a tree for each: one pass over a
// line finds the few members that say what the event is. A tree is made of the usage at the end and of errors only.

import NIOCore

/// What one event of a stream says of itself.
package struct EventFacts: Equatable, Sendable {
    /// The stream's last line, `[DONE]`.
    package var isDone = false
    /// A text that is not empty.
    package var hasText = false
    /// A completion's text that is empty: a token whose bytes are not yet a character, or the end.
    package var hasEmptyText = false
    package var hasFinishReason = false
    package var hasUsage = false
    package var hasError = false

    package init() {}

    /// Whether the event stands for tokens.
    package var isOutput: Bool { hasText || (hasEmptyText && !hasFinishReason) }

    /// Reads the payload of an event, JSON or `[DONE]`, at `range` of `bytes`. Quotes inside a string are escaped, so
    /// what looks like a member's name is one.
    package init(_ bytes: Span<UInt8>, _ range: Range<Int>) {
        let end = range.upperBound
        var index = range.lowerBound
        if Self.matches(bytes, index..<end, Names.done) {
            isDone = true
            return
        }
        while index < end {
            guard bytes[index] == UInt8(ascii: "\"") else {
                index += 1
                continue
            }
            let start = index + 1
            index = start
            while index < end, bytes[index] != UInt8(ascii: "\"") {
                index += bytes[index] == UInt8(ascii: "\\") ? 2 : 1
            }
            let name = start..<min(index, end)
            index += 1
            while index < end, bytes[index] == UInt8(ascii: " ") { index += 1 }
            guard index < end, bytes[index] == UInt8(ascii: ":") else { continue }
            index += 1
            while index < end, bytes[index] == UInt8(ascii: " ") { index += 1 }
            if index < end { take(name, bytes, value: index..<end) }
        }
    }

    /// Takes note of a member of which `value` begins with the value.
    private mutating func take(_ name: Range<Int>, _ bytes: Span<UInt8>, value: Range<Int>) {
        let first = bytes[value.lowerBound]
        let isString = first == UInt8(ascii: "\"")
        let isEmpty = isString && value.count > 1 && bytes[value.lowerBound + 1] == first
        switch name.count {
        case Names.text.count where Self.matches(bytes, name, Names.text):
            if isString { if isEmpty { hasEmptyText = true } else { hasText = true } }
        case Names.content.count where Self.matches(bytes, name, Names.content),
            Names.reasoning.count where Self.matches(bytes, name, Names.reasoning),
            Names.reasoningContent.count where Self.matches(bytes, name, Names.reasoningContent):
            if isString, !isEmpty { hasText = true }
        case Names.finishReason.count where Self.matches(bytes, name, Names.finishReason):
            if isString { hasFinishReason = true }
        case Names.usage.count where Self.matches(bytes, name, Names.usage):
            if first == UInt8(ascii: "{") { hasUsage = true }
        case Names.error.count where Self.matches(bytes, name, Names.error):
            if isString || first == UInt8(ascii: "{") { hasError = true }
        default: break
        }
    }

    fileprivate static func matches(_ bytes: Span<UInt8>, _ range: Range<Int>, _ word: [UInt8]) -> Bool {
        guard range.count == word.count else { return false }
        for index in 0..<word.count where bytes[range.lowerBound + index] != word[index] { return false }
        return true
    }

    fileprivate enum Names {
        static let done = Array("[DONE]".utf8)
        static let text = Array("text".utf8)
        static let content = Array("content".utf8)
        static let reasoning = Array("reasoning".utf8)
        static let reasoningContent = Array("reasoning_content".utf8)
        static let finishReason = Array("finish_reason".utf8)
        static let usage = Array("usage".utf8)
        static let error = Array("error".utf8)
        static let dataField = Array("data:".utf8)
        static let errorField = Array("error:".utf8)
    }
}

/// Splits the bytes of a stream into events, however they were cut on their way.
package struct EventStreamReader {
    /// A line longer than this is not waited for.
    package static let maxLineBytes = 16 << 20

    /// The beginning of a line whose end has not come.
    private var rest: ByteBuffer?

    package init() {}

    /// Hands `take` each event that `bytes` completes, with its payload where that is worth parsing.
    /// - Returns: false when a line is longer than `maxLineBytes`.
    package mutating func read(_ bytes: ByteBuffer, _ take: (EventFacts, ByteBuffer?) -> Void) -> Bool {
        var buffer = bytes
        if var joined = rest {
            joined.writeImmutableBuffer(bytes)
            buffer = joined
            rest = nil
        }
        let used = Self.events(in: buffer, take)
        if used < buffer.readableBytes {
            guard buffer.readableBytes - used <= Self.maxLineBytes else { return false }
            // A copy, so that a few bytes do not keep a whole read's memory.
            var kept = ByteBufferAllocator().buffer(capacity: 1024)
            buffer.moveReaderIndex(forwardBy: used)
            kept.writeImmutableBuffer(buffer)
            rest = kept
        }
        return true
    }

    /// The bytes of whole lines at the beginning of `buffer`.
    private static func events(in buffer: ByteBuffer, _ take: (EventFacts, ByteBuffer?) -> Void) -> Int {
        let bytes = buffer.readableBytesUInt8Span
        var start = 0
        for index in 0..<bytes.count where bytes[index] == UInt8(ascii: "\n") {
            var end = index
            if end > start, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
            if let payload = payload(bytes, start..<end) {
                var facts = EventFacts(bytes, payload)
                // One server names its errors in the field instead of in the payload.
                if bytes[start] == UInt8(ascii: "e") { facts.hasError = true }
                let slice =
                    facts.hasUsage || facts.hasError
                    ? buffer.getSlice(at: buffer.readerIndex + payload.lowerBound, length: payload.count) : nil
                take(facts, slice)
            }
            start = index + 1
        }
        return start
    }

    /// Where the value of a field `data` or `error` is; nil for other lines.
    private static func payload(_ bytes: Span<UInt8>, _ line: Range<Int>) -> Range<Int>? {
        for field in [EventFacts.Names.dataField, EventFacts.Names.errorField] where line.count >= field.count {
            guard EventFacts.matches(bytes, line.lowerBound..<line.lowerBound + field.count, field) else { continue }
            var start = line.lowerBound + field.count
            while start < line.upperBound, bytes[start] == UInt8(ascii: " ") { start += 1 }
            return start..<line.upperBound
        }
        return nil
    }
}
