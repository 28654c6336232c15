// /v1/completions and /v1/chat/completions: decode, start a session, and answer whole or as a stream.

import HTTPTypes
import Hummingbird
import NIOCore

extension Router {
    /// POST /v1/completions.
    func complete(_ call: Call) async throws -> Response {
        let fields = try await state.bodies.fields(of: call.request)
        let request = try CompletionRequest(
            fields, vocabularyCount: state.model.vocabularyCount, configuration: state.configuration)
        let head = AnswerHead(
            id: "cmpl-" + call.label.text, created: WallClock.seconds, model: try state.resolve(model: request.model))
        return try await respond(
            call,
            SessionRequest(
                source: .prompts(request.prompts), sampling: request.sampling, streaming: request.streaming,
                arrival: call.arrival),
            CompletionFormat(head: head, logprobs: logprobTexts(request.sampling)))
    }

    /// POST /v1/chat/completions.
    func chat(_ call: Call) async throws -> Response {
        let fields = try await state.bodies.fields(of: call.request)
        let request = try ChatRequest(fields, configuration: state.configuration)
        let head = AnswerHead(
            id: "chatcmpl-" + call.label.text, created: WallClock.seconds,
            model: try state.resolve(model: request.model))
        guard state.model.chatTemplate != nil else { throw ServingError.noChatTemplate }
        return try await respond(
            call,
            SessionRequest(
                source: .conversation(request.messages), sampling: request.sampling, streaming: request.streaming,
                arrival: call.arrival),
            ChatFormat(head: head, logprobs: logprobTexts(request.sampling)))
    }

    private func respond(
        _ call: Call, _ request: SessionRequest, _ format: some AnswerFormat
    ) async throws -> Response {
        let presence = try await call.channel.peerPresence()
        let session = try await CompletionSession(request, format: format, server: state, presence: presence)
        state.counters.observe(request)
        guard request.streaming.isStreamed else { return Response(json: try await session.answer()) }
        return Response(
            status: .ok,
            headers: [.contentType: EventStream.contentType, .cacheControl: "no-cache"],
            body: ResponseBody { writer in
                try await session.stream(to: &writer)
                try await writer.finish(nil)
            })
    }

    private func logprobTexts(_ sampling: SamplingFields) -> LogprobTexts? {
        sampling.logprobs == nil ? nil : LogprobTexts(tokenizer: state.model.tokenizer)
    }
}
