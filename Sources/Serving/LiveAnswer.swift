// An answer while it grows, on the event loop of its connection. The engine's events come here without a task in
// between, and a step's events of all streams come in one go: first each is written into its answer's buffer, then each
// buffer goes to its socket in one piece.

import Execution
import NIOCore
import Scheduling

/// What an answer came to.
struct FinishedAnswer: Sendable {
    /// The choices; empty where they were streamed.
    let choices: [Delta]
    let usage: Usage
}

/// An answer as other threads hold it: every way in leads to its event loop.
final class AnswerReceiver: EventReceiver {
    private let eventLoop: any EventLoop
    private let answer: NIOLoopBoundBox<LiveAnswer>
    /// Succeeds when everything was written or kept; fails with a `ServingError`.
    let finished: EventLoopFuture<FinishedAnswer>

    init(_ answer: sending LiveAnswer, on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        finished = answer.finished
        self.answer = .makeBoxSendingValue(answer, eventLoop: eventLoop)
    }

    /// Begins to write to the client. The response's head was handed to the event loop before.
    func begin(_ peer: Peer) {
        eventLoop.execute { self.answer.value.begin(peer.watch.value) }
    }

    /// Ends the request from any thread, wherever it is: nobody waits for it any more.
    func abandon() {
        if eventLoop.inEventLoop { answer.value.abandon() } else { eventLoop.execute { self.answer.value.abandon() } }
    }

    // The event loop delivers.
    func receive(_ event: EngineEvent, index: Int) { answer.value.receive(event, index: index) }
    func finishDelivery() { answer.value.finishDelivery() }
}

/// The answer to one request. Its event loop's own.
final class LiveAnswer {
    /// Where the answer goes.
    private enum Output {
        /// Kept until it is complete.
        case whole([Delta])
        /// To a client, once the head of the response is on its way.
        case stream(PeerWatch?)
    }

    /// Bytes in one write; a client that reads on after a pause gets what waited in pieces of this size.
    private static let writeBytes = 16 << 10
    /// Room for a usual event.
    private static let eventCapacity = 512

    private let engine: any TextEngine
    private let presence: PeerPresence
    private var format: any AnswerFormat
    private let streaming: StreamFields
    private let reportsCachedTokens: Bool
    private let promptTokens: Int
    private let choicesPerPrompt: Int
    private let counters: RequestCounters
    private let completion: EventLoopPromise<FinishedAnswer>

    private var choices: [Choice]
    /// Choices that have not ended.
    private var remaining: Int
    private var completionTokens = 0
    private var output: Output
    /// Events that could not be written yet, from `firstWaiting` on: nobody streams yet, or the client does not read.
    private var waiting: [(index: Int, event: EngineEvent)] = []
    private var firstWaiting = 0
    private var buffer = ByteBuffer()
    /// By choice, what waits until there are as many tokens as one event is to have.
    private var gathered: [Int: (delta: Delta, tokens: Int)] = [:]
    /// What the answer ended with; what comes later is not looked at.
    private var outcome: Result<Void, ServingError>?
    private var isWriting = false
    private var hasEnded = false

    init(
        _ choices: [Choice], promptTokens: Int, choicesPerPrompt: Int, format: any AnswerFormat,
        streaming: StreamFields, server: ServingState, peer: Peer
    ) {
        engine = server.engine
        presence = peer.presence
        self.format = format
        self.streaming = streaming
        reportsCachedTokens = server.configuration.reportsCachedTokens
        self.promptTokens = promptTokens
        self.choicesPerPrompt = choicesPerPrompt
        counters = server.counters
        completion = peer.eventLoop.makePromise(of: FinishedAnswer.self)
        remaining = choices.count
        output =
            streaming.isStreamed ? .stream(nil) : .whole(choices.map { Delta(choice: $0.index, isFirst: true) })
        self.choices = choices
        counters.begin()
    }

    var finished: EventLoopFuture<FinishedAnswer> { completion.futureResult }

    /// Begins to write to the client.
    func begin(_ watch: PeerWatch) {
        guard outcome == nil else { return }
        output = .stream(watch)
        watch.answer = self
        resume()
    }

    /// Nobody waits for the rest.
    func abandon() { end(.failure(.clientGone)) }

    // MARK: What the engine says

    func receive(_ event: EngineEvent, index: Int) {
        guard outcome == nil else { return }
        if waiting.isEmpty && canTake { take(event, index) } else { waiting.append((index, event)) }
    }

    func finishDelivery() {
        write()
        if !waiting.isEmpty { resume() }
    }

    private var canTake: Bool {
        switch output {
        case .whole: true
        case .stream(let watch): watch?.isWritable ?? false
        }
    }

    private func take(_ event: EngineEvent, _ index: Int) {
        do throws(ServingError) {
            let before = choices[index].generatedTokens
            let delta = try choices[index].accept(event)
            let tokens = choices[index].generatedTokens - before
            completionTokens += tokens
            guard let delta = gather(delta, tokens: tokens, of: index) else { return }
            if delta.finish != nil {
                remaining -= 1
                // After a stop string the engine does not know yet that it is done.
                if case .string = delta.finish?.cause { engine.stop(choices[index].requestID) }
            }
            add(delta)
            if remaining == 0 { outcome = .success(()) }
        } catch {
            outcome = .failure(error)
        }
    }

    /// What there is to give out now, where events of a stream are to have several tokens: the first goes out at once.
    private func gather(_ delta: Delta?, tokens: Int, of index: Int) -> Delta? {
        guard streaming.interval > 1, streaming.isStreamed, let delta, !delta.isFirst else { return delta }
        var waiting = gathered[index] ?? (Delta(choice: delta.choice, isFirst: false), 0)
        waiting.delta.append(delta)
        waiting.tokens += tokens
        if delta.finish != nil || waiting.tokens >= streaming.interval {
            gathered[index] = nil
            return waiting.delta
        }
        gathered[index] = waiting
        return nil
    }

    private func add(_ delta: Delta) {
        switch output {
        case .whole(var choices):
            // Not held twice while it is added to.
            output = .stream(nil)
            choices[delta.choice].append(delta)
            output = .whole(choices)
        case .stream:
            if buffer.capacity == 0 { buffer.reserveCapacity(Self.eventCapacity) }
            format.writeEvents(delta, usage: streaming.hasContinuousUsage ? usage : nil, to: &buffer)
        }
    }

    private var usage: Usage {
        Usage(
            promptTokens: promptTokens, completionTokens: completionTokens,
            cachedTokens: reportsCachedTokens ? choices.reduce(0) { $0 + $1.cachedTokens } : nil)
    }

    // MARK: What the client gets

    /// Goes on after the client has read.
    func resume() {
        guard !isWriting else { return }
        while outcome == nil, firstWaiting < waiting.count, canTake {
            while outcome == nil, firstWaiting < waiting.count, buffer.readableBytes < Self.writeBytes {
                let (index, event) = waiting[firstWaiting]
                firstWaiting += 1
                take(event, index)
            }
            write()
        }
        if firstWaiting == waiting.count {
            waiting.removeAll(keepingCapacity: true)
            firstWaiting = 0
        }
    }

    /// Passes on what was written into the buffer, and ends with it if it is the last.
    private func write() {
        guard !hasEnded else { return }
        guard case .stream(let watch) = output else {
            if let outcome { end(outcome) }
            return
        }
        // What ended before the response began is told when it begins.
        guard let watch else { return }
        if let outcome { addLast(outcome) }
        if buffer.readableBytes > 0 {
            isWriting = true
            watch.write(events: buffer)
            isWriting = false
            // The storage is used again unless the socket still has to take it.
            buffer.clear()
        }
        if outcome != nil { end(.success(())) }
    }

    /// Writes what follows the last token.
    private func addLast(_ outcome: Result<Void, ServingError>) {
        switch outcome {
        case .success: format.writeEnd(usage, includesUsage: streaming.includesUsage, to: &buffer)
        case .failure(let error):
            for waiting in gathered.sorted(by: { $0.key < $1.key }) {
                format.writeEvents(waiting.value.delta, usage: nil, to: &buffer)
            }
            format.writeFailure(error, to: &buffer)
        }
    }

    /// Gives back what is still held in the engine, and lets the task that answers go on.
    private func end(_ result: Result<Void, ServingError>) {
        guard !hasEnded else { return }
        hasEnded = true
        counters.end()
        outcome = result
        waiting = []
        firstWaiting = 0
        presence.clear()
        for choice in choices where !choice.isFinished { engine.abort(choice.requestID) }
        counters.observe(generated: choices.map(\.generatedTokens), choicesPerPrompt: choicesPerPrompt)
        var whole: [Delta] = []
        switch output {
        case .whole(let choices): whole = choices
        case .stream(let watch): watch?.answer = nil
        }
        switch result {
        case .success: completion.succeed(FinishedAnswer(choices: whole, usage: usage))
        case .failure(let error): completion.fail(error)
        }
    }
}
