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
        let prompts = try await server.threads.run { () throws(ServingError) in
            let prompts = try encoder.tokens(for: source)
            for tokens in prompts { try encoder.checkLength(tokens, field: source.fieldName) }
            return prompts
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
                        maxNewTokens: min(sampling.maxTokens ?? room, room),
                        stopTokens: sampling.ignoreEOS ? [] : server.model.stopTokens,
                        sampling: sampling.parameters(seed: seed, choice: index), arrival: request.arrival))
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
        choices = requests.enumerated().map { index, request in
            Choice(index: index, request: request, stops: sampling.stop, tokenizer: server.model.tokenizer)
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
        var whole = choices.map { Delta(choice: $0.index, isFirst: true, text: "", entries: [], finish: nil) }
        for await (index, event) in events {
            guard let delta = try session.accept(index, event) else { continue }
            whole[index].text += delta.text
            whole[index].entries += delta.entries
            whole[index].finish = delta.finish
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
            if delta.finish?.stopString != nil { engine.stop(choices[index].requestID) }
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

extension PromptSource {
    /// The field that an empty prompt is blamed on.
    fileprivate var fieldName: String {
        switch self {
        case .prompts: "prompt"
        case .conversation: "messages"
        }
    }
}
