// Server-sent events, as far as this API uses them: each event is one line `data: ` with one JSON object and an empty
// line; the last one is `[DONE]`. No other field, no multi-line data: clients parse by exact prefix.

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

    /// The event for an error that came too late for a status.
    mutating func writeErrorEvent(_ error: ServingError) {
        beginEvent()
        OpenAIError(error).write(to: &self)
        endEvent()
    }
}
