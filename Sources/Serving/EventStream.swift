// Server-sent events, as far as these APIs use them: each event is one line `data: ` with one JSON object and an empty
// line. OpenAI's end with `[DONE]` and have no other field; those of /v1/messages have a name on the line before. No
// multi-line data: clients parse by exact prefix.

import NIOCore

/// The framing of events.
enum EventStream {
    /// Content type of a stream.
    static let contentType = "text/event-stream; charset=utf-8"
}

extension ByteBuffer {
    /// Begins an event; the JSON object follows.
    mutating func beginEvent() { writeStaticString("data: ") }

    /// Ends an event.
    mutating func endEvent() { writeStaticString("\n\n") }

    /// The event after which nothing follows.
    mutating func writeDoneEvent() { writeStaticString("data: [DONE]\n\n") }
}
