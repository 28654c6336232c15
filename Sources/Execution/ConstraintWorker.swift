// Which tokens a constrained sequence may go on with, found out on a thread of its own while the model computes.
//
// The token of step N is accepted when the step completes, and the mask for step N + 1 is computed while that step's
// forward runs; sampling waits only for a mask that is late. A session sees each generated token once, in order, and so
// preemption and recomputation pass it by. The memory of a mask lasts as long as its request.

import Dispatch
import Foundation
import Scheduling
import Synchronization

/// The engine thread's side: the masks of all live constrained requests.
final class ConstraintWorker {
    private struct Entry {
        let slot: MaskSlot
        /// A mask was asked for and nobody has waited for it yet.
        var isPending = true
    }

    private let vocabularyCount: Int
    private let clock: EngineClock
    private let queue = ConstraintQueue()
    private var hasThread = false
    private var entries: [RequestID: Entry] = [:]
    /// What is handed to the thread at once.
    private var tasks: [ConstraintTask] = []
    /// Of the masks that were used and not yet counted: what they took, and how long sampling waited for them.
    private var times: [(computing: Duration, waiting: Duration)] = []

    init(vocabularyCount: Int, clock: EngineClock) {
        self.vocabularyCount = vocabularyCount
        self.clock = clock
    }

    deinit { queue.close() }

    /// Whether no live request is constrained.
    var isEmpty: Bool { entries.isEmpty }

    /// Begins to compute a request's first mask, if it is constrained.
    func begin(_ request: GenerationRequest) {
        guard let constraint = request.constraint else { return }
        startThread()
        let slot = MaskSlot(wordCount: (vocabularyCount + 31) / 32)
        entries[request.id] = Entry(slot: slot)
        let endTokens = request.stopTokens.filter { $0 >= 0 && Int($0) < vocabularyCount }
        queue.post(ConstraintStart(id: request.id, constraint: constraint, endTokens: endTokens, slot: slot))
    }

    /// The tokens that may come next, or nil where all may; waits when that is not known yet.
    func mask(of id: RequestID) -> [UInt32]? {
        guard let entry = entries[id] else { return nil }
        if entry.isPending {
            var waiting = Duration.zero
            if entry.slot.isReady.wait(timeout: .now()) == .timedOut {
                let start = clock.now
                queue.hurry(id)
                entry.slot.isReady.wait()
                waiting = clock.now - start
            }
            entries[id]?.isPending = false
            times.append((entry.slot.content.withLock { $0.duration }, waiting))
        }
        return entry.slot.content.withLock { $0.words }
    }

    /// Moves sessions on by what was generated, and drops those of requests that ended.
    func advance(_ events: [SchedulerEvent], statistics: inout EngineStatistics) {
        guard !entries.isEmpty else { return }
        for event in events where entries[event.id] != nil {
            switch event.kind {
            case .token(let sample):
                tasks.append(.accept(event.id, sample.token))
                entries[event.id]?.isPending = true
            case .finished:
                // The token before it, which may be an end token, needs no mask after it.
                if case .accept(event.id, _) = tasks.last { tasks.removeLast() }
                entries[event.id] = nil
                tasks.append(.end(event.id))
            }
        }
        if !tasks.isEmpty { queue.post(tasks) }
        tasks.removeAll(keepingCapacity: true)
        for time in times {
            statistics.maskTime.observe(time.computing)
            statistics.maskWait.observe(time.waiting)
        }
        times.removeAll(keepingCapacity: true)
    }

    /// How a sequence ends from whose row nothing could be chosen; nil when that is not its constraint's doing.
    func end(of sequence: ScheduledSequence) -> FinishReason? {
        guard let entry = entries[sequence.id] else { return nil }
        var banned = Set(sequence.logitChange?.bans ?? [])
        let rules = sequence.sampling.rules
        for bias in rules?.biases ?? [] where bias.bias == -.infinity { banned.insert(bias.token) }
        let allowed = rules?.allowedTokens.map(Set.init)
        return entry.slot.content.withLock { content in
            for token in 0..<TokenID(vocabularyCount) where content.allows(token) {
                if !banned.contains(token), allowed?.contains(token) != false { return nil }
            }
            return content.isComplete ? .complete : .error(.constraintStuck)
        }
    }

    private func startThread() {
        guard !hasThread else { return }
        hasThread = true
        let thread = Thread { [queue, clock] in
            var sessions = ConstraintSessions(clock: clock)
            var tasks: [ConstraintTask] = []
            while queue.take(&tasks) {
                for task in tasks { sessions.perform(task) }
            }
        }
        thread.name = "apus-constraints"
        thread.stackSize = 2 << 20
        thread.start()
    }
}

/// A request whose session is to begin.
private struct ConstraintStart: Sendable {
    let id: RequestID
    let constraint: any TokenConstraint
    let endTokens: [TokenID]
    let slot: MaskSlot
}

/// What the thread is asked to do.
private enum ConstraintTask: Sendable {
    case begin(ConstraintStart)
    case accept(RequestID, TokenID)
    case end(RequestID)
}

/// Tasks on their way to the thread. Requests that run go before those that wait for their turn, so that a burst of new
/// ones delays a step by one first mask at most.
private final class ConstraintQueue: Sendable {
    private struct State {
        var tasks: [ConstraintTask] = []
        /// In the order of arrival.
        var starts: [ConstraintStart] = []
        var isClosed = false
    }

    private let state = Mutex(State())
    private let signal = DispatchSemaphore(value: 0)

    func post(_ tasks: [ConstraintTask]) {
        state.withLock { $0.tasks += tasks }
        signal.signal()
    }

    func post(_ start: ConstraintStart) {
        state.withLock { $0.starts.append(start) }
        signal.signal()
    }

    /// The engine waits for the first mask of this request.
    func hurry(_ id: RequestID) {
        state.withLock { state in
            guard let index = state.starts.firstIndex(where: { $0.id == id }) else { return }
            state.tasks.append(.begin(state.starts.remove(at: index)))
        }
    }

    func close() {
        state.withLock { $0.isClosed = true }
        signal.signal()
    }

    /// Waits for tasks and moves the next ones to `tasks`; false when none will come any more.
    func take(_ tasks: inout [ConstraintTask]) -> Bool {
        tasks.removeAll(keepingCapacity: true)
        while true {
            let isOpen = state.withLock { state in
                swap(&state.tasks, &tasks)
                for case .end(let id) in tasks { state.starts.removeAll { $0.id == id } }
                if tasks.isEmpty, !state.starts.isEmpty { tasks.append(.begin(state.starts.removeFirst())) }
                return !state.isClosed
            }
            if !isOpen || !tasks.isEmpty { return isOpen }
            signal.wait()
        }
    }
}

/// The next tokens of one request: written by the thread, read by the engine once it is ready.
private final class MaskSlot: Sendable {
    struct Content {
        /// [⌈vocab / 32⌉]
        var words: [UInt32]
        /// Whether the text may end here.
        var isComplete = false
        /// What it took to find out.
        var duration = Duration.zero

        func allows(_ token: TokenID) -> Bool { words[Int(token) / 32] >> UInt32(token % 32) & 1 != 0 }
    }

    let content: Mutex<Content>
    /// Signalled once for each mask.
    let isReady = DispatchSemaphore(value: 0)

    init(wordCount: Int) { content = Mutex(Content(words: Array(repeating: 0, count: wordCount))) }
}

/// The thread's side: where each sequence stands in its constraint.
private struct ConstraintSessions {
    private struct Entry {
        let session: any TokenConstraintSession
        let endTokens: [TokenID]
        let slot: MaskSlot
        /// A token came that its constraint does not allow; nothing may follow.
        var isBroken = false
    }

    private let clock: EngineClock
    private var entries: [RequestID: Entry] = [:]

    init(clock: EngineClock) { self.clock = clock }

    mutating func perform(_ task: ConstraintTask) {
        let start = clock.now
        switch task {
        case .begin(let begun):
            let entry = Entry(
                session: begun.constraint.makeSession(), endTokens: begun.endTokens, slot: begun.slot)
            entries[begun.id] = entry
            fill(entry, start: start)
        case .accept(let id, let token):
            guard var entry = entries[id] else { return }
            if !entry.isBroken, !entry.session.accept(token) {
                entry.isBroken = true
                entries[id] = entry
            }
            fill(entry, start: start)
        case .end(let id):
            entries[id] = nil
        }
    }

    private func fill(_ entry: Entry, start: Duration) {
        entry.slot.content.withLock { content in
            content.isComplete = !entry.isBroken && entry.session.isComplete
            if entry.isBroken {
                for index in content.words.indices { content.words[index] = 0 }
            } else {
                entry.session.fillMask(&content.words)
            }
            if content.isComplete {
                for token in entry.endTokens { content.words[Int(token) / 32] |= 1 << UInt32(token % 32) }
            }
            content.duration = clock.now - start
        }
        entry.slot.isReady.signal()
    }
}
