// The answer of /v1/responses: a response of items, one each for what the model thought, said and called.
//
// A stream numbers its events and names them. Each item is added, grows by pieces and is done; what is done is told
// whole once more, so that a client may look at the last events only.

import JSON
import NIOCore

/// Writes responses.
struct ResponsesFormat: AnswerFormat {
    private enum Kind: String { case reasoning = "rs", message = "msg", call = "fc" }

    /// An item that is being written.
    private struct Item {
        let kind: Kind
        let id: String
        var callID = ""
        var name = ""
        var text = ""
        var entries: [TokenEntry] = []
    }

    private let head: AnswerHead
    private let echo: [JSONValue.Member]
    private let logprobs: LogprobTexts?
    private var eventCount = 0
    private var open: Item?
    private var done: [Item] = []
    private var finish: Finish?

    /// - Parameters:
    ///   - head: with an id that begins with `resp_`.
    ///   - echo: what the response says of its request.
    init(head: AnswerHead, echo: [JSONValue.Member], logprobs: LogprobTexts?) {
        self.head = head
        self.echo = echo
        self.logprobs = logprobs
    }

    // MARK: A stream

    mutating func writeEvents(_ delta: Delta, usage: Usage?, to buffer: inout ByteBuffer) {
        begin(to: &buffer)
        if !delta.reasoning.isEmpty {
            openItem(.reasoning, to: &buffer)
            writePiece("response.reasoning_text.delta", delta.reasoning, to: &buffer)
        }
        if !delta.text.isEmpty {
            openItem(.message, to: &buffer)
            writePiece("response.output_text.delta", delta.text, delta.entries, to: &buffer)
        }
        for event in delta.calls {
            switch event {
            case .start(_, let id, let name): openItem(.call, callID: id, name: name, to: &buffer)
            case .arguments(_, let text): writePiece("response.function_call_arguments.delta", text, to: &buffer)
            case .content, .end: break
            }
        }
        if let finish = delta.finish { self.finish = finish }
    }

    mutating func writeEnd(_ usage: Usage, includesUsage: Bool, to buffer: inout ByteBuffer) {
        begin(to: &buffer)
        closeItem(to: &buffer)
        let isComplete = Self.status(finish).description == "completed"
        let name: StaticString = isComplete ? "response.completed" : "response.incomplete"
        let (items, finish) = (done, finish)
        writeEvent(name, to: &buffer) { format, buffer in
            buffer.writeStaticString(",\"response\":")
            format.writeResponse(Self.status(finish), items, usage, to: &buffer)
        }
    }

    func writeFailure(_ error: ServingError, to buffer: inout ByteBuffer) {
        let error = OpenAIError(error.said(in: .responses))
        buffer.writeStaticString("event: error\n")
        buffer.beginEvent()
        buffer.writeStaticString("{\"type\":\"error\",\"sequence_number\":")
        buffer.writeJSON(eventCount)
        buffer.writeStaticString(",\"code\":\"")
        buffer.writeStaticString(error.type)
        buffer.writeStaticString("\",\"message\":")
        buffer.writeJSON(error.message)
        buffer.writeStaticString(",\"param\":")
        buffer.writeJSON(error.parameter)
        buffer.writeStaticString("}")
        buffer.endEvent()
    }

    private mutating func begin(to buffer: inout ByteBuffer) {
        guard eventCount == 0 else { return }
        for name in ["response.created", "response.in_progress"] as [StaticString] {
            writeEvent(name, to: &buffer) { format, buffer in
                buffer.writeStaticString(",\"response\":")
                format.writeResponse("in_progress", [], nil, to: &buffer)
            }
        }
    }

    /// Makes sure that an item of this kind is open; a call is always a new one.
    private mutating func openItem(
        _ kind: Kind, callID: String = "", name: String = "", to buffer: inout ByteBuffer
    ) {
        guard kind == .call || open?.kind != kind else { return }
        closeItem(to: &buffer)
        let item = Item(kind: kind, id: itemID(kind, done.count), callID: callID, name: name)
        open = item
        writeEvent("response.output_item.added", to: &buffer) { format, buffer in
            format.writeIndex(to: &buffer)
            buffer.writeStaticString(",\"item\":")
            format.write(item, status: "in_progress", to: &buffer)
        }
        guard kind != .call else { return }
        writeEvent("response.content_part.added", to: &buffer) { format, buffer in
            format.writePlace(of: item, to: &buffer)
            buffer.writeStaticString(",\"part\":")
            format.writePart(of: item, to: &buffer)
        }
    }

    private mutating func writePiece(
        _ name: StaticString, _ text: String, _ entries: [TokenEntry] = [], to buffer: inout ByteBuffer
    ) {
        guard !text.isEmpty, let item = open else { return }
        open?.text += text
        if logprobs != nil { open?.entries += entries }
        writeEvent(name, to: &buffer) { format, buffer in
            format.writePlace(of: item, to: &buffer)
            buffer.writeStaticString(",\"delta\":")
            buffer.writeJSON(text)
            if item.kind == .message { format.writeLogprobs(entries, to: &buffer) }
        }
    }

    private mutating func closeItem(to buffer: inout ByteBuffer) {
        guard let item = open else { return }
        let (name, member): (StaticString, StaticString) =
            switch item.kind {
            case .reasoning: ("response.reasoning_text.done", "text")
            case .message: ("response.output_text.done", "text")
            case .call: ("response.function_call_arguments.done", "arguments")
            }
        writeEvent(name, to: &buffer) { format, buffer in
            format.writePlace(of: item, to: &buffer)
            buffer.writeStaticString(",\"")
            buffer.writeStaticString(member)
            buffer.writeStaticString("\":")
            buffer.writeJSON(item.text)
            if item.kind == .message { format.writeLogprobs(item.entries, to: &buffer) }
        }
        if item.kind != .call {
            writeEvent("response.content_part.done", to: &buffer) { format, buffer in
                format.writePlace(of: item, to: &buffer)
                buffer.writeStaticString(",\"part\":")
                format.writePart(of: item, to: &buffer)
            }
        }
        writeEvent("response.output_item.done", to: &buffer) { format, buffer in
            format.writeIndex(to: &buffer)
            buffer.writeStaticString(",\"item\":")
            format.write(item, status: "completed", to: &buffer)
        }
        done.append(item)
        open = nil
    }

    private mutating func writeEvent(
        _ name: StaticString, to buffer: inout ByteBuffer, _ body: (ResponsesFormat, inout ByteBuffer) -> Void
    ) {
        buffer.writeStaticString("event: ")
        buffer.writeStaticString(name)
        buffer.writeStaticString("\n")
        buffer.beginEvent()
        buffer.writeStaticString("{\"type\":\"")
        buffer.writeStaticString(name)
        buffer.writeStaticString("\",\"sequence_number\":")
        buffer.writeJSON(eventCount)
        body(self, &buffer)
        buffer.writeStaticString("}")
        buffer.endEvent()
        eventCount += 1
    }

    // MARK: A whole answer

    func writeAnswer(_ choices: [Delta], usage: Usage, to buffer: inout ByteBuffer) {
        guard let answer = choices.first else { return }
        var items: [Item] = []
        if !answer.reasoning.isEmpty {
            items.append(Item(kind: .reasoning, id: itemID(.reasoning, 0), text: answer.reasoning))
        }
        if !answer.text.isEmpty {
            items.append(
                Item(kind: .message, id: itemID(.message, items.count), text: answer.text, entries: answer.entries))
        }
        for call in ToolCall.gathered(from: answer.calls) {
            items.append(
                Item(
                    kind: .call, id: itemID(.call, items.count), callID: call.id, name: call.name, text: call.arguments)
            )
        }
        writeResponse(Self.status(answer.finish), items, usage, to: &buffer)
    }

    // MARK: Parts of both

    private func itemID(_ kind: Kind, _ index: Int) -> String { "\(kind.rawValue)_\(head.id.dropFirst(5))_\(index)" }

    private static func status(_ finish: Finish?) -> StaticString {
        switch finish?.reason.description {
        case "length": "incomplete"
        // A deadline passed.
        case "abort": "cancelled"
        default: "completed"
        }
    }

    private func writeResponse(
        _ status: StaticString, _ items: [Item], _ usage: Usage?, to buffer: inout ByteBuffer
    ) {
        buffer.writeStaticString("{\"id\":")
        buffer.writeJSON(head.id)
        buffer.writeStaticString(",\"object\":\"response\",\"created_at\":")
        buffer.writeJSON(head.created)
        buffer.writeStaticString(",\"status\":\"")
        buffer.writeStaticString(status)
        buffer.writeStaticString("\",\"error\":null,\"incomplete_details\":")
        let isCut = status.description == "incomplete"
        buffer.writeStaticString(isCut ? "{\"reason\":\"max_output_tokens\"}" : "null")
        buffer.writeStaticString(",\"model\":")
        buffer.writeJSON(head.model)
        buffer.writeStaticString(",\"output\":[")
        buffer.writeList(items) { buffer, item in write(item, status: "completed", to: &buffer) }
        buffer.writeStaticString("]")
        for member in echo {
            buffer.writeStaticString(",")
            buffer.writeJSON(member.name)
            buffer.writeStaticString(":")
            buffer.writeJSON(member.value)
        }
        buffer.writeStaticString(",\"usage\":")
        if let usage { write(usage, to: &buffer) } else { buffer.writeStaticString("null") }
        buffer.writeStaticString("}")
    }

    private func write(_ item: Item, status: StaticString, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"id\":")
        buffer.writeJSON(item.id)
        switch item.kind {
        case .reasoning: buffer.writeStaticString(",\"type\":\"reasoning\",\"summary\":[],\"content\":[")
        case .message: buffer.writeStaticString(",\"type\":\"message\",\"role\":\"assistant\",\"content\":[")
        case .call:
            buffer.writeStaticString(",\"type\":\"function_call\",\"call_id\":")
            buffer.writeJSON(item.callID)
            buffer.writeStaticString(",\"name\":")
            buffer.writeJSON(item.name)
            buffer.writeStaticString(",\"arguments\":")
            buffer.writeJSON(item.text)
        }
        if item.kind != .call {
            if status.description == "completed" { writePart(of: item, to: &buffer) }
            buffer.writeStaticString("]")
        }
        buffer.writeStaticString(",\"status\":\"")
        buffer.writeStaticString(status)
        buffer.writeStaticString("\"}")
    }

    private func writePart(of item: Item, to buffer: inout ByteBuffer) {
        buffer.writeStaticString(item.kind == .reasoning ? "{\"type\":\"reasoning_text\"" : "{\"type\":\"output_text\"")
        buffer.writeStaticString(",\"text\":")
        buffer.writeJSON(item.text)
        if item.kind == .message {
            buffer.writeStaticString(",\"annotations\":[]")
            writeLogprobs(item.entries, to: &buffer)
        }
        buffer.writeStaticString("}")
    }

    /// Where the open item stands among the others.
    private func writeIndex(to buffer: inout ByteBuffer) {
        buffer.writeStaticString(",\"output_index\":")
        buffer.writeJSON(done.count)
    }

    private func writePlace(of item: Item, to buffer: inout ByteBuffer) {
        buffer.writeStaticString(",\"item_id\":")
        buffer.writeJSON(item.id)
        writeIndex(to: &buffer)
        if item.kind != .call { buffer.writeStaticString(",\"content_index\":0") }
    }

    private func writeLogprobs(_ entries: [TokenEntry], to buffer: inout ByteBuffer) {
        buffer.writeStaticString(",\"logprobs\":")
        if let logprobs { logprobs.writeList(entries, to: &buffer) } else { buffer.writeStaticString("[]") }
    }

    private func write(_ usage: Usage, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"input_tokens\":")
        buffer.writeJSON(usage.promptTokens)
        buffer.writeStaticString(",\"input_tokens_details\":{\"cached_tokens\":")
        buffer.writeJSON(usage.cachedTokens ?? 0)
        buffer.writeStaticString("},\"output_tokens\":")
        buffer.writeJSON(usage.completionTokens)
        buffer.writeStaticString(",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":")
        buffer.writeJSON(usage.promptTokens + usage.completionTokens)
        buffer.writeStaticString("}")
    }
}

extension ByteBuffer {
    /// Writes a tree.
    fileprivate mutating func writeJSON(_ value: JSONValue) {
        switch value {
        case .null: writeStaticString("null")
        case .bool(let value): writeJSON(value)
        case .integer(let value): writeJSON(value)
        case .number(let value): writeString(value.description)
        case .string(let text): writeJSON(text)
        case .array(let elements):
            writeStaticString("[")
            writeList(elements) { buffer, element in buffer.writeJSON(element) }
            writeStaticString("]")
        case .object(let members):
            writeStaticString("{")
            writeList(members) { buffer, member in
                buffer.writeJSON(member.name)
                buffer.writeStaticString(":")
                buffer.writeJSON(member.value)
            }
            writeStaticString("}")
        }
    }
}
