// Notices an engine that has work and completes no step: a kernel that never returns, a lock that nobody lets go.
//
// A thread of its own looks a few times per timeout at what the engine thread leaves behind as it goes (a count of
// steps, whether it waits for work, what the step holds) and never takes a lock that is held for longer than a copy.
// It counts its own ticks instead of the time between them: a machine that was suspended did not stall.

import Foundation
import Scheduling
import Synchronization

/// What happened to an engine that had work.
package enum StallEvent: Sendable {
    /// It completed no step for the timeout; the report says what it was at. Comes once for each stall.
    case stalled(StallReport)
    /// It completed one after all, after so long.
    case recovered(after: Duration)
    /// The grace period passed too; nothing follows. Whoever hears this ends the process.
    case hung(EngineStall)
}

/// The engine has work but takes no steps.
package struct EngineStall: Error, Equatable, Sendable, CustomStringConvertible {
    /// How long no step was completed.
    package let duration: Duration
    /// Sequences that were running.
    package let running: Int

    package init(duration: Duration, running: Int) {
        self.duration = duration
        self.running = running
    }

    package var description: String {
        "The engine completed no step for \(duration.components.seconds) s with \(running) sequences running. "
            + "The process ends so that a supervisor can start it anew."
    }
}

/// A step as the engine thread noted it when it began.
package struct StepRecord: Sendable {
    /// The share of one sequence.
    package struct Share: Sendable {
        package let id: RequestID
        /// Tokens of the prompt and generated ones.
        package let knownTokens: Int
        /// Those before this step.
        package let computedTokens: Int
        /// Those of this step.
        package let tokens: Int
        package let blocks: Int
    }

    /// The number of steps begun, this one included; 0 before the first.
    package internal(set) var number = 0
    /// When it began, on the engine's clock.
    package internal(set) var start = Duration.zero
    package internal(set) var shares: [Share] = []
    /// Sequences that hold a row, requests that wait for one, and KV blocks in use.
    package internal(set) var running = 0
    package internal(set) var waiting = 0
    package internal(set) var usedBlocks = 0

    package var tokenCount: Int { shares.reduce(0) { $0 + $1.tokens } }
}

/// What an engine was at when it stalled.
package struct StallReport: Sendable, CustomStringConvertible {
    /// How long no step was completed.
    package let duration: Duration
    /// Steps completed.
    package let steps: Int
    package let blockCount: Int
    /// Messages that the engine thread has not read.
    package let unreadMessages: Int
    /// The step that was begun last, and how long ago.
    package let step: StepRecord
    package let stepAge: Duration

    /// Sequences that are listed.
    private static let listLimit = 64

    /// The dump for the log: one line for each thing.
    package var description: String {
        var lines = [
            "The engine has completed no step for \(duration.tenths) s; it is not ready until it does. "
                + "\(step.running) sequences run, \(step.waiting) wait, "
                + "\(step.usedBlocks) of \(blockCount) KV blocks are in use, \(steps) steps were completed, "
                + "\(unreadMessages) messages are unread."
        ]
        guard step.number > 0 else { return lines[0] + " No step was ever begun." }
        lines.append(
            "Step \(step.number) began \(stepAge.tenths) s ago: \(step.tokenCount) tokens of "
                + "\(step.shares.count) sequences.")
        for share in step.shares.prefix(Self.listLimit) {
            lines.append(
                "Request \(share.id.rawValue): \(share.knownTokens) tokens known, \(share.computedTokens) computed, "
                    + "\(share.tokens) in this step, \(share.blocks) blocks.")
        }
        if step.shares.count > Self.listLimit {
            lines.append("And \(step.shares.count - Self.listLimit) sequences more.")
        }
        return lines.joined(separator: "\n")
    }
}

/// How long an engine with work may go without completing a step.
package struct StallLimits: Sendable, Equatable {
    /// After this it is not ready.
    package let timeout: Duration
    /// After this much more the process is to end. Before the first step nobody knows how long one takes here, and it
    /// may take four times as long.
    package let grace: Duration

    /// - Parameter grace: nil is the timeout once more.
    package init(timeout: Duration, grace: Duration? = nil) {
        self.timeout = timeout
        self.grace = grace ?? timeout
    }

    /// Time between two looks: often enough to be no more than a tenth late, and at most a second.
    var interval: Duration { max(.milliseconds(2), min(.seconds(1), timeout / 10)) }
}

/// The heartbeat that the engine thread leaves behind.
final class EnginePulse: Sendable {
    /// Steps completed.
    private let steps = Atomic<Int>(0)
    /// The engine thread waits for messages, with nothing to do. So does one that has not started.
    private let isIdle = Atomic<Bool>(true)
    private let record = Mutex(StepRecord())

    /// Notes a step that computes something and is about to.
    func begin(
        _ output: borrowing SchedulerOutput, _ state: SchedulerStatistics, at start: Duration,
        knownTokens: (RequestID) -> Int
    ) {
        record.withLock { record in
            record.number += 1
            record.start = start
            record.running = state.running
            record.waiting = state.waiting
            record.usedBlocks = state.usedBlocks
            record.shares.removeAll(keepingCapacity: true)
            for sequence in output.sequences {
                record.shares.append(
                    StepRecord.Share(
                        id: sequence.id, knownTokens: knownTokens(sequence.id), computedTokens: sequence.start,
                        tokens: sequence.tokenRange.count, blocks: sequence.blockRange.count))
            }
        }
    }

    /// Notes that a step was completed.
    func complete() { steps.add(1, ordering: .relaxed) }

    /// Notes whether the engine thread has nothing to do but wait.
    func set(isIdle: Bool) { self.isIdle.store(isIdle, ordering: .relaxed) }

    /// Steps completed, and whether more are due.
    var reading: (steps: Int, isIdle: Bool) {
        (steps.load(ordering: .relaxed), isIdle.load(ordering: .relaxed))
    }

    var lastStep: StepRecord { record.withLock { $0 } }
}

/// The thread's state. Holds what the engine thread writes and not the engine, which may go away.
struct Watchdog {
    let limits: StallLimits
    let board: EngineBoard
    let inbox: Inbox
    let clock: EngineClock
    let blockCount: Int
    let report: @Sendable (StallEvent) -> Void

    private var lastSteps = 0
    /// How long there was work and no step was completed.
    private var elapsed = Duration.zero
    private var isStalled = false

    init(
        limits: StallLimits, board: EngineBoard, inbox: Inbox, clock: EngineClock, blockCount: Int,
        report: @escaping @Sendable (StallEvent) -> Void
    ) {
        self.limits = limits
        self.board = board
        self.inbox = inbox
        self.clock = clock
        self.blockCount = blockCount
        self.report = report
    }

    /// Looks until the engine has ended or is given up.
    mutating func run() {
        var previous = ContinuousClock.now
        while !board.hasEnded {
            Thread.sleep(forTimeInterval: limits.interval.seconds)
            let now = ContinuousClock.now
            // Whoever stopped this thread for longer stopped the engine thread too.
            let passed = min(previous.duration(to: now), limits.interval * 2)
            previous = now
            if !look(after: passed) { return }
        }
    }

    /// One look, so long after the one before; false when the engine is given up.
    mutating func look(after passed: Duration) -> Bool {
        let (steps, isIdle) = board.pulse.reading
        if steps != lastSteps || isIdle {
            lastSteps = steps
            if isStalled { recover() }
            elapsed = .zero
            return true
        }
        elapsed += passed
        if !isStalled, elapsed >= limits.timeout { stall() }
        guard isStalled, elapsed >= limits.timeout + limits.grace * (steps > 0 ? 1 : 4) else { return true }
        report(.hung(EngineStall(duration: elapsed, running: board.pulse.lastStep.running)))
        return false
    }

    private mutating func stall() {
        isStalled = true
        let step = board.pulse.lastStep
        let dump = StallReport(
            duration: elapsed, steps: lastSteps, blockCount: blockCount, unreadMessages: inbox.count, step: step,
            stepAge: clock.now - step.start)
        let sentence = "the engine has completed no step for \(limits.timeout.tenths) s"
        board.health.withLock { if $0 == .ready { $0 = .stalled(sentence) } }
        report(.stalled(dump))
    }

    private mutating func recover() {
        isStalled = false
        board.health.withLock { if case .stalled = $0 { $0 = .ready } }
        report(.recovered(after: elapsed))
    }
}
