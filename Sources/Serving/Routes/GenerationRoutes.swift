// /v1/completions and /v1/chat/completions: decode, start a session, and answer whole or as a stream.

import HTTPTypes
import Hummingbird
import NIOCore

extension Router {
    /// POST /v1/completions.
    func complete(_ call: Call) async throws -> Response {
        let fields = try await state.bodies.fields(of: call.request)
        var request = try CompletionRequest(fields, model: state.model, configuration: state.configuration)
        try addTimeouts(of: call, to: &request.promptFields)
        let head = AnswerHead(
            id: "cmpl-" + call.label.base(request.promptFields), created: WallClock.seconds,
            model: try state.resolve(model: request.model))
        let details = AnswerDetails(request.sampling, request.answer, tokenizer: state.model.tokenizer)
        return try await respond(
            call,
            SessionRequest(
                source: .prompts(request.prompts), sampling: request.sampling, streaming: request.streaming,
                answer: request.answer, prompt: request.promptFields, output: request.output, tenant: tenant(of: call),
                arrival: call.arrival, adapter: try state.adapter(named: request.model)),
            CompletionFormat(head: head, details: details))
    }

    /// POST /v1/chat/completions.
    func chat(_ call: Call) async throws -> Response {
        let (request, session) = try conversation(try await state.bodies.fields(of: call.request), call)
        let head = AnswerHead(
            id: "chatcmpl-" + call.label.base(request.promptFields), created: WallClock.seconds,
            model: try state.resolve(model: request.model))
        let details = AnswerDetails(request.sampling, request.answer, tokenizer: state.model.tokenizer)
        return try await respond(call, session, ChatFormat(head: head, details: details))
    }

    /// A conversation, checked, and what it asks of a session.
    func conversation(_ fields: JSONFields, _ call: Call) throws(ServingError) -> (ChatRequest, SessionRequest) {
        var request = try ChatRequest(fields, model: state.model, configuration: state.configuration)
        try addTimeouts(of: call, to: &request.promptFields)
        guard state.model.chatTemplate != nil else { throw .noChatTemplate }
        let session = SessionRequest(
            source: .conversation(request.messages, request.template), sampling: request.sampling,
            streaming: request.streaming, answer: request.answer, prompt: request.promptFields,
            output: request.output, tenant: tenant(of: call), echo: request.echo, arrival: call.arrival,
            adapter: try state.adapter(named: request.model))
        return (request, session)
    }

    /// By which the engine tells clients apart.
    func tenant(of call: Call) -> UInt64 { state.configuration.keys.tenant(of: call.request.headers) ?? 0 }

    /// Takes the time-outs that gateways send with a request.
    func addTimeouts(of call: Call, to fields: inout PromptFields) throws(ServingError) {
        for name in ["x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms"] {
            guard let field = HTTPField.Name(name) else { continue }
            try fields.add(timeoutHeader: call.request.headers[field], named: name)
        }
    }

    func respond(
        _ call: Call, _ request: SessionRequest, _ format: some AnswerFormat
    ) async throws -> Response {
        let peer = try await call.channel.peer()
        let session = try await CompletionSession(request, format: format, server: state, peer: peer)
        state.counters.observe(request)
        var response: Response
        if request.streaming.isStreamed {
            response = Response(
                status: .ok,
                headers: [.contentType: EventStream.contentType, .cacheControl: "no-cache"],
                body: ResponseBody { writer in
                    try await session.stream()
                    try await writer.finish(nil)
                })
        } else {
            response = Response(json: try await session.whole())
        }
        LoadReport.add(to: &response.headers, for: call.request.headers, state.engine)
        return response
    }
}
