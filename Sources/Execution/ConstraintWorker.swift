// Which tokens a constrained sequence may go on with, found out on a thread of its own while the model computes.
//
// The token of step N is accepted when the step completes, and the mask for step N + 1 is computed while that step's
// forward runs; sampling waits only for a mask that is late. A session sees each generated token once, in order, and so
// preemption and recomputation pass it by. The memory of a mask lasts as long as its request.
//
// Where the text is forced the thread says so before it computes masks, so that the next step can be planned with it;
// then there is a mask for the place after each forced token too.

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
        /// Tokens generated.
        var tokenCount = 0
    }

    /// How long a step waits to hear what is forced; it is planned without where that takes longer.
    private static let patience = DispatchTimeInterval.microseconds(500)

    private let vocabularyCount: Int
    /// Most forced tokens asked for; 0 is none.
    private let forcedTokenCount: Int
    private let clock: EngineClock
    private let queue = ConstraintQueue()
    /// [⌈vocab / 32⌉] Allows no token.
    private let nothing: [UInt32]
    private var hasThread = false
    private var entries: [RequestID: Entry] = [:]
    /// What is handed to the thread at once.
    private var tasks: [ConstraintTask] = []
    /// Of the masks that were used and not yet counted: what they took, and how long sampling waited for them.
    private var times: [(computing: Duration, waiting: Duration)] = []

    init(vocabularyCount: Int, forcedTokenCount: Int, clock: EngineClock) {
        self.vocabularyCount = vocabularyCount
        self.forcedTokenCount = forcedTokenCount
        self.clock = clock
        nothing = Array(repeating: 0, count: (vocabularyCount + 31) / 32)
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

    /// Hands out what is known to be forced after the tokens generated so far.
    func takeForced(_ take: (RequestID, [TokenID]) -> Void) {
        guard forcedTokenCount > 0, !entries.isEmpty else { return }
        for forced in queue.takeForced(until: .now() + Self.patience)
        where entries[forced.id]?.tokenCount == forced.tokenCount { take(forced.id, forced.tokens) }
    }

    /// The tokens that may come after so many of the forced ones, or nil where all may; waits when that is not known.
    func mask(of id: RequestID, after offset: Int) -> [UInt32]? {
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
        return entry.slot.content.withLock { $0[offset]?.words } ?? nothing
    }

    /// Moves sessions on by what was generated, and drops those of requests that ended.
    func advance(_ events: [SchedulerEvent], statistics: inout EngineStatistics) {
        guard !entries.isEmpty else { return }
        for event in events where entries[event.id] != nil {
            switch event.kind {
            case .token(let sample):
                if case .accept(event.id, let token, true) = tasks.last {
                    tasks[tasks.count - 1] = .accept(event.id, token, isLast: false)
                }
                tasks.append(.accept(event.id, sample.token, isLast: true))
                entries[event.id]?.isPending = true
                entries[event.id]?.tokenCount += 1
            case .finished:
                // The token before it, which may be an end token, needs no mask after it.
                if case .accept(event.id, _, _) = tasks.last { tasks.removeLast() }
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

    /// How a sequence ends when nothing can be chosen after so many of the forced tokens; nil when that is not its
    /// constraint's doing.
    func end(of sequence: ScheduledSequence, after offset: Int) -> FinishReason? {
        guard let entry = entries[sequence.id] else { return nil }
        var banned = Set(sequence.logitChange?.bans ?? [])
        let rules = sequence.sampling.rules
        for bias in rules?.biases ?? [] where bias.bias == -.infinity { banned.insert(bias.token) }
        let allowed = rules?.allowedTokens.map(Set.init)
        return entry.slot.content.withLock { content in
            guard let mask = content[offset] else { return .error(.constraintStuck) }
            for token in 0..<TokenID(vocabularyCount) where mask.allows(token) {
                if !banned.contains(token), allowed?.contains(token) != false { return nil }
            }
            return mask.isComplete ? .complete : .error(.constraintStuck)
        }
    }

    private func startThread() {
        guard !hasThread else { return }
        hasThread = true
        let thread = Thread { [queue, clock, forcedTokenCount] in
            var sessions = ConstraintSessions(clock: clock, forcedTokenCount: forcedTokenCount)
            var tasks: [ConstraintTask] = []
            while let count = queue.take(&tasks) {
                for task in tasks { sessions.perform(task) }
                queue.answer(count, sessions.takeForced())
                sessions.fillMasks()
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
    /// Only after the last of a step does anybody ask what comes next.
    case accept(RequestID, TokenID, isLast: Bool)
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
        /// Times that tasks were posted, and how many of them are answered.
        var postCount = 0
        var answerCount = 0
        var forced: [ForcedText] = []
    }

    private let state = Mutex(State())
    private let signal = DispatchSemaphore(value: 0)
    private let answerSignal = DispatchSemaphore(value: 0)

    func post(_ tasks: [ConstraintTask]) {
        state.withLock { state in
            state.tasks += tasks
            state.postCount += 1
        }
        signal.signal()
    }

    /// Says what is forced, for all tasks of the first `count` posts.
    func answer(_ count: Int, _ forced: [ForcedText]) {
        state.withLock { state in
            state.answerCount = count
            state.forced += forced
        }
        answerSignal.signal()
    }

    /// What was found to be forced; waits until the tasks posted so far are answered, or a time has passed.
    func takeForced(until deadline: DispatchTime) -> [ForcedText] {
        // Signals of answers that nobody waited for.
        while answerSignal.wait(timeout: .now()) == .success {}
        while state.withLock({ $0.answerCount < $0.postCount }) {
            if answerSignal.wait(timeout: deadline) == .timedOut { break }
        }
        return state.withLock { state in
            defer { state.forced.removeAll() }
            return state.forced
        }
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

    /// Waits for tasks and moves the next ones to `tasks`; the count of posts so far, or nil when no more will come.
    func take(_ tasks: inout [ConstraintTask]) -> Int? {
        tasks.removeAll(keepingCapacity: true)
        while true {
            let (count, isOpen) = state.withLock { state in
                swap(&state.tasks, &tasks)
                for case .end(let id) in tasks { state.starts.removeAll { $0.id == id } }
                if tasks.isEmpty, !state.starts.isEmpty { tasks.append(.begin(state.starts.removeFirst())) }
                return (state.postCount, !state.isClosed)
            }
            if !isOpen { return nil }
            if !tasks.isEmpty { return count }
            signal.wait()
        }
    }
}

/// What must follow the tokens that a request has generated.
private struct ForcedText: Sendable {
    let id: RequestID
    let tokenCount: Int
    let tokens: [TokenID]
}

/// The next tokens of one request: written by the thread, read by the engine once it is ready.
private final class MaskSlot: Sendable {
    struct Mask {
        /// [⌈vocab / 32⌉]
        var words: [UInt32]
        /// Whether the text may end here.
        var isComplete = false

        func allows(_ token: TokenID) -> Bool { words[Int(token) / 32] >> UInt32(token % 32) & 1 != 0 }
    }

    struct Content {
        /// After the tokens so far, then after each of the forced ones; the memory of those beyond `count` is kept.
        var masks: [Mask]
        var count = 1
        /// What it took to find out.
        var duration = Duration.zero

        /// nil where nobody knows, because the text does not go there.
        subscript(offset: Int) -> Mask? { offset < count ? masks[offset] : nil }
    }

    let content: Mutex<Content>
    /// Signalled once for each mask.
    let isReady = DispatchSemaphore(value: 0)

    init(wordCount: Int) { content = Mutex(Content(masks: [Mask(words: Array(repeating: 0, count: wordCount))])) }
}

/// The thread's side: where each sequence stands in its constraint.
private struct ConstraintSessions {
    private struct Entry {
        let session: any TokenConstraintSession
        let endTokens: [TokenID]
        let slot: MaskSlot
        /// A token came that its constraint does not allow; nothing may follow.
        var isBroken = false
        var tokenCount = 0
        var forced: [TokenID] = []
        /// What it took since the last mask.
        var duration = Duration.zero
    }

    private let clock: EngineClock
    private let forcedTokenCount: Int
    private var entries: [RequestID: Entry] = [:]
    /// Whose masks are wanted.
    private var due: [RequestID] = []

    init(clock: EngineClock, forcedTokenCount: Int) {
        self.clock = clock
        self.forcedTokenCount = forcedTokenCount
    }

    mutating func perform(_ task: ConstraintTask) {
        let start = clock.now
        switch task {
        case .begin(let begun):
            entries[begun.id] = Entry(
                session: begun.constraint.makeSession(), endTokens: begun.endTokens, slot: begun.slot)
            due.append(begun.id)
        case .accept(let id, let token, let isLast):
            guard var entry = entries[id] else { return }
            entry.tokenCount += 1
            if !entry.isBroken, !entry.session.accept(token) { entry.isBroken = true }
            entry.forced = []
            if isLast {
                due.append(id)
                if !entry.isBroken, forcedTokenCount > 0 {
                    entry.forced = entry.session.forcedTokens(limit: forcedTokenCount)
                }
            }
            entry.duration += clock.now - start
            entries[id] = entry
        case .end(let id):
            entries[id] = nil
        }
    }

    /// What was found to be forced since the last masks.
    func takeForced() -> [ForcedText] {
        due.compactMap { id in
            guard let entry = entries[id], !entry.forced.isEmpty else { return nil }
            return ForcedText(id: id, tokenCount: entry.tokenCount, tokens: entry.forced)
        }
    }

    /// Computes the masks that are wanted.
    mutating func fillMasks() {
        for id in due {
            guard let entry = entries[id] else { continue }
            fill(entry)
            entries[id]?.duration = .zero
        }
        due.removeAll(keepingCapacity: true)
    }

    private func fill(_ entry: Entry) {
        let start = clock.now
        entry.slot.content.withLock { content in
            content.count = 1
            fill(&content.masks[0], entry, at: entry.session)
            if !entry.forced.isEmpty {
                let ahead = entry.session.copy()
                for token in entry.forced {
                    guard ahead.accept(token) else { break }
                    if content.masks.count == content.count {
                        content.masks.append(MaskSlot.Mask(words: content.masks[0].words))
                    }
                    fill(&content.masks[content.count], entry, at: ahead)
                    content.count += 1
                }
            }
            content.duration = entry.duration + clock.now - start
        }
        entry.slot.isReady.signal()
    }

    private func fill(_ mask: inout MaskSlot.Mask, _ entry: Entry, at session: any TokenConstraintSession) {
        mask.isComplete = !entry.isBroken && session.isComplete
        if entry.isBroken {
            for index in mask.words.indices { mask.words[index] = 0 }
        } else {
            session.fillMask(&mask.words)
        }
        if mask.isComplete {
            for token in entry.endTokens { mask.words[Int(token) / 32] |= 1 << UInt32(token % 32) }
        }
    }
}
