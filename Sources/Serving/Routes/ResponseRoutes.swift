// /v1/responses: conversations of items, as OpenAI's newer clients send them. Nothing is stored.

import Hummingbird
import JSON

extension Router {
    /// POST /v1/responses.
    func createResponse(_ call: Call) async throws -> Response {
        let asked = try ResponsesRequest(try await state.bodies.fields(of: call.request))
        let (request, session) = try conversation(asked.chatFields, call)
        let head = AnswerHead(
            id: "resp_" + call.label.base(request.promptFields), created: WallClock.seconds,
            model: try state.resolve(model: request.model))
        let details = AnswerDetails(request.sampling, request.answer, tokenizer: state.model.tokenizer)
        return try await respond(
            call, session, ResponsesFormat(head: head, echo: asked.echo, logprobs: details.logprobs))
    }
}
