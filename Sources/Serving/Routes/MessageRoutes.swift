// /v1/messages and /v1/messages/count_tokens: conversations for Anthropic's clients.

import Hummingbird
import JSON
import NIOCore

extension Router {
    /// POST /v1/messages.
    func message(_ call: Call) async throws -> Response {
        let fields = try MessagesRequest.chatFields(try await state.bodies.fields(of: call.request))
        let (request, session) = try conversation(fields, call)
        let head = AnswerHead(
            id: "msg_" + call.label.base(request.promptFields), created: WallClock.seconds,
            model: try state.resolve(model: request.model))
        return try await respond(call, session, MessagesFormat(head: head))
    }

    /// POST /v1/messages/count_tokens.
    func countTokens(_ call: Call) async throws -> Response {
        let fields = try MessagesRequest.chatFields(try await state.bodies.fields(of: call.request), isCounted: true)
        let request = try ChatRequest(fields, model: state.model, configuration: state.configuration)
        _ = try state.resolve(model: request.model)
        let encoder = state.encoder
        let count = try await state.threads.runUnqueued { () throws(ServingError) in
            let runs = try encoder.render(request.messages, request.template)
            return try encoder.encodeAll(runs, addSpecialTokens: false).count
        }
        var body = ByteBuffer()
        body.writeStaticString("{\"input_tokens\":")
        body.writeJSON(count)
        body.writeStaticString("}")
        return Response(json: body)
    }
}
