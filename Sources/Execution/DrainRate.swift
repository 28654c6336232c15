// How fast the queue drains, as measured, and what that says of the time to a newcomer's first token.
//
// Three things hold prompts up: the steps' budget, of which every sequence that generates takes a token; rows, when all
// are taken; and blocks, which show in how many prompt tokens were really computed while somebody waited.

import Scheduling

/// The engine's pace, as the ledger reads it.
package struct DrainRate: Sendable, Equatable {
    /// Prompt tokens computed per second; 0 when nobody knows.
    package var promptTokens = 0.0
    /// Prompt tokens that left the queue for each that was computed: the prefix cache held the rest.
    package var cacheFactor = 1.0
    /// Tokens of any kind computed per second in steps that were full.
    package var stepTokens = 0.0
    /// Rows given back per second.
    package var rows = 0.0
    /// Sequences that hold a row.
    package var running = 0
    /// Prompts that hold a row and are not computed yet.
    package var backlog = PromptBacklog()

    package init(promptTokens: Double = 0) { self.promptTokens = promptTokens }

    /// Prompt tokens that will be computed per second from here on, with `running` sequences in the batch.
    private func sustained(_ limits: AdmissionLimits) -> Double {
        guard stepTokens > 0, limits.tokenBudget > 0 else { return promptTokens }
        // Whoever computes its prompt now will generate soon.
        let budget = Double(limits.tokenBudget)
        let share = max(0.25, (budget - Double(running)) / budget)
        return min(promptTokens, stepTokens * share)
    }

    /// Prompt tokens that leave the queue per second from here on.
    func draining(_ limits: AdmissionLimits) -> Double { sustained(limits) * max(1, cacheFactor) }

    /// Time until somebody is served who comes after `requests` requests with `waiting` prompt tokens before its own,
    /// and after `begun` tokens of prompts that were begun. nil: it needs a row, all are taken, and while nobody has
    /// ended nobody knows when one will be free.
    func delay(requests: Int, waiting: Int, begun: Int, limits: AdmissionLimits) -> Duration? {
        let rate = sustained(limits)
        var delay = rate > 0 ? Double(begun) / rate + Double(waiting) / (rate * max(1, cacheFactor)) : 0
        let missing = requests + 1 - max(0, limits.rows - running)
        if missing > 0, limits.rows > 0 {
            guard rows > 0 else { return nil }
            delay = max(delay, Double(missing) / rows)
        }
        return .seconds(min(delay, 1e6))
    }
}

/// Measures the pace on the engine thread. What happened fades over some seconds of work.
struct DrainMeter {
    /// Seconds after which a step counts about a third.
    private static let memory = 5.0

    private var computed = 0.0
    private var found = 0.0
    private var all = 0.0
    private var seconds = 0.0
    private var ended = 0.0
    private var busySeconds = 0.0
    private var lastFound = 0
    private var lastReleased = 0

    /// Takes in a step that computed `promptTokens` prompt tokens among `tokens`.
    /// - Parameter isFull: it had at least half its budget to do, or somebody waited; other steps do not tell how fast
    ///   the engine is.
    mutating func add(
        promptTokens: Int, tokens: Int, elapsed: Duration, isFull: Bool, state: borrowing SchedulerStatistics
    ) {
        let newlyFound = state.prefixHits - lastFound
        let newlyReleased = state.rowsReleased - lastReleased
        lastFound = state.prefixHits
        lastReleased = state.rowsReleased
        let step = elapsed.seconds
        let decay = max(0, 1 - step / Self.memory)
        ended = ended * decay + Double(newlyReleased)
        busySeconds = busySeconds * decay + step
        guard isFull else { return }
        computed = computed * decay + Double(promptTokens)
        found = found * decay + Double(newlyFound)
        all = all * decay + Double(tokens)
        seconds = seconds * decay + step
    }

    /// Prompt tokens computed per second; 0 when nobody knows.
    var promptRate: Double { seconds > 0 ? computed / seconds : 0 }

    /// What was measured, with what is under way now.
    func rate(running: Int, backlog: PromptBacklog) -> DrainRate {
        var rate = DrainRate()
        rate.running = running
        rate.backlog = backlog
        if seconds > 0 {
            rate.promptTokens = promptRate
            rate.stepTokens = all / seconds
        }
        if computed > 0 { rate.cacheFactor = (computed + found) / computed }
        if busySeconds > 0 { rate.rows = ended / busySeconds }
        return rate
    }
}
