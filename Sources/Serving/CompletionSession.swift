// A request on its way through the engine: takes a place in the queue, becomes tokens and is submitted; its events
// become the answer on the connection's event loop. Whatever way it ends, what it holds in the engine is given back.

import Execution
import NIOCore
import Scheduling
import Tokenization

/// What a session is to generate.
struct SessionRequest: Sendable {
    let source: PromptSource
    let sampling: SamplingFields
    let streaming: StreamFields
    let answer: AnswerFields
    let prompt: PromptFields
    let output: OutputFields
    /// The number of the client's key; 0 where there are none.
    let tenant: UInt64
    /// Text in front of the answer, where it is not the prompt that is echoed.
    var echo: String?
    /// When the request arrived, on the engine's clock.
    let arrival: Duration
    /// What the model is to be changed by.
    var adapter: AdapterReference?
}

/// One accepted request. Whoever lets go of it ends it.
final class CompletionSession: Sendable {
    private let answer: AnswerReceiver
    private let peer: Peer
    private let format: any AnswerFormat

    /// Takes a place in the queue, tokenizes and submits; throws before anything has been answered.
    init(
        _ request: SessionRequest, format: any AnswerFormat, server: ServingState, peer: Peer
    ) async throws(ServingError) {
        let engine = server.engine
        let sampling = request.sampling
        let count = request.source.count * sampling.n
        guard count <= server.model.maxQueuedRequests else {
            throw .tooManySequences(count: count, limit: server.model.maxQueuedRequests)
        }
        // The place comes before the work: a burst beyond the queue must not cost a burst of tokenizing.
        let reservation = try Self.reserve(
            engine, requests: count, promptTokens: request.source.tokenEstimate * sampling.n, tenant: request.tenant,
            priority: request.prompt.priority, deadline: request.deadline)
        let encoder = server.encoder
        let source = request.source
        let endTokens = server.model.stopTokens
        let (prompts, rules) = try await server.threads.run { () throws(ServingError) in
            let prompts = try encoder.tokens(for: source, request.prompt, maxTokens: sampling.maxTokens)
            for tokens in prompts.lists { try encoder.checkLength(tokens, field: source.fieldName) }
            let badWords = try encoder.tokens(ofBadWords: sampling.logits.badWords)
            return (prompts, sampling.logits.rules(badWords: badWords, endTokens: endTokens + sampling.stopTokens))
        }
        let (parts, constraint) = try await server.plan(request.output, reasoning: prompts.reasoning)
        guard !peer.presence.isGone else { throw .clientGone }

        var requests: [GenerationRequest] = []
        for tokens in prompts.lists {
            let seed = sampling.seed ?? UInt64.random(in: 0 ... .max)
            for index in 0..<sampling.n {
                let room = server.model.maxModelLength - tokens.count
                requests.append(
                    GenerationRequest(
                        id: engine.makeRequestID(), prompt: tokens,
                        maxNewTokens: max(1, min(sampling.maxTokens ?? room, room)),
                        stopTokens: (sampling.ignoreEOS ? [] : endTokens) + sampling.stopTokens,
                        sampling: sampling.parameters(seed: seed, choice: index, rules: rules),
                        priority: request.prompt.priority, arrival: request.arrival,
                        cacheSalt: request.prompt.cacheSalt,
                        deadline: request.deadline,
                        repetition: sampling.repetition, promptLogprobCount: request.promptLogprobCount,
                        constraint: constraint, tenant: request.tenant, adapter: request.adapter))
            }
        }
        let settings = ChoiceSettings(
            answer: request.answer, sampling: sampling, endTokens: sampling.ignoreEOS ? [] : endTokens,
            echo: request.source.echo(request.echo), parts: parts)
        let choices = requests.enumerated().map { index, request in
            Choice(index: index, request: request, settings: settings, tokenizer: server.model.tokenizer)
        }
        let answer = AnswerReceiver(
            LiveAnswer(
                choices, promptTokens: prompts.lists.reduce(0) { $0 + $1.count }, choicesPerPrompt: sampling.n,
                format: format, streaming: request.streaming, server: server, peer: peer), on: peer.eventLoop)
        do throws(EngineError) {
            try engine.submit(
                requests, reservation: reservation, to: answer, by: server.deliveries.queue(for: peer.eventLoop))
        } catch {
            answer.abandon()
            throw .engine(error)
        }
        self.answer = answer
        self.peer = peer
        self.format = format
        peer.presence.whenGone { answer.abandon() }
    }

    deinit { answer.abandon() }

    private static func reserve(
        _ engine: any TextEngine, requests: Int, promptTokens: Int, tenant: UInt64, priority: Int,
        deadline: Duration?
    ) throws(ServingError) -> Reservation {
        do {
            return try engine.reserve(
                requests: requests, promptTokenEstimate: promptTokens, tenant: tenant, priority: priority,
                deadline: deadline)
        } catch {
            throw .engine(error)
        }
    }

    // MARK: Answers

    /// The whole answer, when it is complete.
    func whole() async throws(ServingError) -> ByteBuffer {
        let finished = try await finish()
        var buffer = ByteBuffer()
        format.writeAnswer(finished.choices, usage: finished.usage, to: &buffer)
        return buffer
    }

    /// Writes the answer as it is made, up to its last event; only the end of the response remains. The response's
    /// head was written before. Errors from here on are events.
    func stream() async throws(ServingError) {
        answer.begin(peer)
        _ = try await finish()
    }

    private func finish() async throws(ServingError) -> FinishedAnswer {
        do {
            return try await withTaskCancellationHandler {
                try await answer.finished.get()
            } onCancel: {
                answer.abandon()
            }
        } catch {
            throw error as? ServingError ?? .clientGone
        }
    }
}

extension SessionRequest {
    /// When its time is over, on the engine's clock.
    fileprivate var deadline: Duration? { prompt.timeout.map { arrival + $0 } }

    /// Alternatives to score the prompt with: for its own list, and for an echo with log-probabilities.
    fileprivate var promptLogprobCount: Int? {
        var counts: [Int] = []
        if let count = answer.promptLogprobs { counts.append(count) }
        if answer.echoes, case .prompts = source, let count = sampling.logprobs { counts.append(count) }
        return counts.max()
    }
}

extension PromptSource {
    /// What stands in front of an answer that echoes; nil is the prompt itself.
    fileprivate func echo(_ text: String?) -> String? {
        switch self {
        case .prompts: nil
        case .conversation: text ?? ""
        }
    }

    /// The field that an empty prompt is blamed on.
    fileprivate var fieldName: String {
        switch self {
        case .prompts: "prompt"
        case .conversation: "messages"
        }
    }
}
