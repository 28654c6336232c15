// A request on its way through the engine: takes a place in the queue, becomes tokens, is submitted, and its events
// become the answer. Whatever way it ends, what it holds in the engine is given back.

import Execution
import Hummingbird
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
    /// Text in front of the answer, where it is not the prompt that is echoed.
    var echo: String?
    /// When the request arrived, on the engine's clock.
    let arrival: Duration
}

/// One accepted request.
struct CompletionSession: Sendable {
    private let engine: any TextEngine
    private let presence: PeerPresence
    private let format: any AnswerFormat
    private let streaming: StreamFields
    private let reportsCachedTokens: Bool
    private let promptTokens: Int
    private let events: ChoiceEvents
    private var choices: [Choice]
    /// Choices that have not ended.
    private var remaining: Int
    private var completionTokens = 0
    /// Room for a usual chunk, so that writing it allocates once.
    private static let chunkCapacity = 512

    /// Takes a place in the queue, tokenizes and submits; throws before anything has been answered.
    init(
        _ request: SessionRequest, format: any AnswerFormat, server: ServingState, presence: PeerPresence
    ) async throws(ServingError) {
        let engine = server.engine
        let sampling = request.sampling
        let count = request.source.count * sampling.n
        guard count <= server.model.maxQueuedRequests else {
            throw .tooManySequences(count: count, limit: server.model.maxQueuedRequests)
        }
        // The place comes before the work: a burst beyond the queue must not cost a burst of tokenizing.
        let reservation = try Self.reserve(
            engine, requests: count, promptTokens: request.source.tokenEstimate * sampling.n)
        let encoder = server.encoder
        let source = request.source
        let endTokens = server.model.stopTokens
        let (prompts, rules) = try await server.threads.run { () throws(ServingError) in
            let prompts = try encoder.tokens(for: source, request.prompt, maxTokens: sampling.maxTokens)
            for tokens in prompts { try encoder.checkLength(tokens, field: source.fieldName) }
            let badWords = try encoder.tokens(ofBadWords: sampling.logits.badWords)
            return (prompts, sampling.logits.rules(badWords: badWords, endTokens: endTokens + sampling.stopTokens))
        }
        guard !presence.isGone else { throw .clientGone }

        var requests: [GenerationRequest] = []
        for tokens in prompts {
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
                        deadline: request.prompt.timeout.map { request.arrival + $0 },
                        repetition: sampling.repetition, promptLogprobCount: request.promptLogprobCount))
            }
        }
        let streams: [AsyncStream<EngineEvent>]
        do throws(EngineError) {
            streams = try engine.submit(requests, reservation: reservation)
        } catch {
            throw .engine(error)
        }
        self.engine = engine
        self.presence = presence
        self.format = format
        streaming = request.streaming
        reportsCachedTokens = server.configuration.reportsCachedTokens
        promptTokens = prompts.reduce(0) { $0 + $1.count }
        events = ChoiceEvents(streams)
        let settings = ChoiceSettings(
            answer: request.answer, sampling: sampling, endTokens: sampling.ignoreEOS ? [] : endTokens,
            echo: request.source.echo(request.echo))
        choices = requests.enumerated().map { index, request in
            Choice(index: index, request: request, settings: settings, tokenizer: server.model.tokenizer)
        }
        remaining = requests.count
        presence.whenGone { [ids = requests.map(\.id)] in
            for id in ids { engine.abort(id) }
        }
    }

    private static func reserve(
        _ engine: any TextEngine, requests: Int, promptTokens: Int
    ) throws(ServingError) -> Reservation {
        do {
            return try engine.reserve(requests: requests, promptTokenEstimate: promptTokens)
        } catch {
            throw .engine(error)
        }
    }

    // MARK: Answers

    /// The whole answer, when it is complete.
    func answer() async throws(ServingError) -> ByteBuffer {
        var session = self
        defer { session.release() }
        var whole = choices.map { Delta(choice: $0.index, isFirst: true) }
        for await (index, event) in events {
            guard let delta = try session.accept(index, event) else { continue }
            whole[index].append(delta)
            if session.remaining == 0 { break }
        }
        guard session.remaining == 0, !presence.isGone else { throw .clientGone }
        var buffer = ByteBuffer()
        format.writeAnswer(whole, usage: session.usage, to: &buffer)
        return buffer
    }

    /// Writes the answer as it is made. Errors from here on are events.
    func stream(to writer: inout any ResponseBodyWriter) async throws {
        var session = self
        defer { session.release() }
        for await (index, event) in events {
            var buffer = ByteBufferAllocator().buffer(capacity: Self.chunkCapacity)
            do throws(ServingError) {
                guard let delta = try session.accept(index, event) else { continue }
                let usage = streaming.hasContinuousUsage ? session.usage : nil
                format.writeEvents(delta, usage: usage, to: &buffer)
            } catch {
                buffer.writeErrorEvent(error)
                buffer.writeDoneEvent()
                return try await writer.write(buffer)
            }
            if session.remaining == 0 {
                if streaming.includesUsage { format.writeUsageEvent(session.usage, to: &buffer) }
                buffer.writeDoneEvent()
            }
            guard !presence.isGone else { throw ServingError.clientGone }
            try await writer.write(buffer)
            if session.remaining == 0 { return }
        }
        // The streams ended early: the task was cancelled, and nobody reads on.
        throw ServingError.clientGone
    }

    private mutating func accept(_ index: Int, _ event: EngineEvent) throws(ServingError) -> Delta? {
        let before = choices[index].generatedTokens
        let delta = try choices[index].accept(event)
        completionTokens += choices[index].generatedTokens - before
        if let delta, delta.finish != nil {
            remaining -= 1
            // After a stop string the engine does not know yet that it is done.
            if case .string = delta.finish?.cause { engine.stop(choices[index].requestID) }
        }
        return delta
    }

    private var usage: Usage {
        Usage(
            promptTokens: promptTokens, completionTokens: completionTokens,
            cachedTokens: reportsCachedTokens ? choices.reduce(0) { $0 + $1.cachedTokens } : nil)
    }

    /// Gives back what is still held in the engine.
    private func release() {
        presence.clear()
        for choice in choices where !choice.isFinished { engine.abort(choice.requestID) }
    }
}

extension SessionRequest {
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
