// The one door to the engine thread: messages go in from any thread, the engine takes all of them at once.

import Dispatch
import Models
import Scheduling
import Synchronization

/// What the engine thread is told.
enum EngineMessage: Sendable {
    case submit([Submission])
    case abort(RequestID)
    /// Like `abort`, but the request counts as stopped: its consumer has all it wants.
    case stop(RequestID)
    /// End what still runs when `deadline` (on the engine's clock) has passed, and stop when idle.
    case drain(deadline: Duration)
    case load(AdapterLoading)
    /// Nobody uses the adapter at `place` any more.
    case unload(place: Int)
    /// The group of ranks has ended; it says why itself.
    case rankFailed
}

/// An adapter to be loaded, and whom to tell.
struct AdapterLoading: Sendable {
    let adapter: LowRankAdapter
    let name: String
    let reply: @Sendable (Result<AdapterReference, EngineError>) -> Void
}

/// A request and where its events go.
struct Submission: Sendable {
    let request: GenerationRequest
    let events: EventDestination

    /// Ends it with an error before the scheduler saw it.
    func fail(_ error: EngineError) { events.send(.failed(error)) }
}

/// A queue with many writers and one reader.
final class Inbox: Sendable {
    private struct State {
        var messages: [EngineMessage] = []
        var isClosed = false
    }

    private let state = Mutex(State())
    private let signal = DispatchSemaphore(value: 0)

    /// Adds a message and wakes the engine thread; false when there is no engine thread to read it any more.
    func post(_ message: EngineMessage) -> Bool {
        let (isAccepted, isFirst) = state.withLock { state in
            guard !state.isClosed else { return (false, false) }
            state.messages.append(message)
            return (true, state.messages.count == 1)
        }
        // One signal per non-empty queue is enough: the reader takes everything.
        if isFirst { signal.signal() }
        return isAccepted
    }

    /// Messages that nobody has read yet.
    var count: Int { state.withLock { $0.messages.count } }

    /// Moves all messages into `buffer` (emptied first) without waiting.
    func drain(into buffer: inout [EngineMessage]) {
        buffer.removeAll(keepingCapacity: true)
        state.withLock { swap(&$0.messages, &buffer) }
    }

    /// Accepts nothing more and returns what was not read.
    func close() -> [EngineMessage] {
        state.withLock { state in
            state.isClosed = true
            defer { state.messages = [] }
            return state.messages
        }
    }

    /// Waits until there may be messages. May return early.
    func wait(timeout: DispatchTime = .distantFuture) {
        _ = signal.wait(timeout: timeout)
    }
}
