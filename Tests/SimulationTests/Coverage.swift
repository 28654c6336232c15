// What the runs met. A simulation that never preempts proves nothing about preemption, so this is asserted too.

import Scheduling

/// How often each situation came up.
struct Coverage {
    var preemptions = 0
    var prefixHits = 0
    var sharedWaits = 0
    var refusals = 0
    var abortsWaiting = 0
    var abortsPreempted = 0
    var abortsInFlight = 0
    var abortsPrefilling = 0
    var abortsDecoding = 0
    var abortsEnded = 0
    var stops = 0
    var lengths = 0
    var aborts = 0
    var deadlines = 0
    var errors = 0
    var requests = 0
    var computedTokens = 0
    /// Preemptions of a sequence that a step in flight computes.
    var lateWithdrawals = 0
    /// Shares of a step that were computed for a sequence that had ended.
    var uselessShares = 0
    var hopeless = 0
    var slowReaders = 0
    var failedSteps = 0
    /// Requests that were preempted as often as they may be.
    var protections = 0
    var drafts = 0
    var rightGuesses = 0
    var wrongGuesses = 0
    var draftPauses = 0
    var forcedTexts = 0
    var rightForced = 0
    var wrongForced = 0
    /// Shares of a step of sequences whose windowed groups have given something up, and those of them that began with
    /// a prefix from the cache.
    var windowedShares = 0
    var windowedHits = 0
    var stepsLeft = 0
    var rowsYielded = 0

    /// Everything that has not been seen.
    var missing: [String] {
        Mirror(reflecting: self).children.compactMap { $0.value as? Int == 0 ? $0.label : nil }
    }

    mutating func count(_ reason: FinishReason) {
        switch reason {
        case .stop, .complete: stops += 1
        case .length, .repetition: lengths += 1
        case .abort: aborts += 1
        case .deadline: deadlines += 1
        case .error: errors += 1
        }
    }

    mutating func countAbort(
        hasEnded: Bool, isComputing: Bool, hasRow: Bool, wasPreempted: Bool, hasTokens: Bool
    ) {
        if hasEnded {
            abortsEnded += 1
        } else if isComputing {
            abortsInFlight += 1
        } else if hasRow {
            if hasTokens { abortsDecoding += 1 } else { abortsPrefilling += 1 }
        } else {
            if wasPreempted { abortsPreempted += 1 } else { abortsWaiting += 1 }
        }
    }

    mutating func add(_ statistics: SchedulerStatistics) {
        prefixHits += statistics.prefixHits
        sharedWaits += statistics.sharedWaits
        requests += statistics.accepted
        computedTokens += statistics.computedTokens
        stepsLeft += statistics.stepsLeft
        rowsYielded += statistics.rowsYielded
        drafts += statistics.speculation.drafts
        rightGuesses += statistics.speculation.acceptedTokens
        wrongGuesses += statistics.speculation.draftTokens - statistics.speculation.acceptedTokens
        draftPauses += statistics.speculation.pauses
        forcedTexts += statistics.jumpForward.drafts
        rightForced += statistics.jumpForward.acceptedTokens
        wrongForced += statistics.jumpForward.draftTokens - statistics.jumpForward.acceptedTokens
    }

    mutating func add(_ other: Coverage) {
        preemptions += other.preemptions
        prefixHits += other.prefixHits
        sharedWaits += other.sharedWaits
        refusals += other.refusals
        abortsWaiting += other.abortsWaiting
        abortsPreempted += other.abortsPreempted
        abortsInFlight += other.abortsInFlight
        abortsPrefilling += other.abortsPrefilling
        abortsDecoding += other.abortsDecoding
        abortsEnded += other.abortsEnded
        stops += other.stops
        lengths += other.lengths
        aborts += other.aborts
        deadlines += other.deadlines
        errors += other.errors
        requests += other.requests
        computedTokens += other.computedTokens
        lateWithdrawals += other.lateWithdrawals
        uselessShares += other.uselessShares
        hopeless += other.hopeless
        slowReaders += other.slowReaders
        failedSteps += other.failedSteps
        protections += other.protections
        drafts += other.drafts
        rightGuesses += other.rightGuesses
        wrongGuesses += other.wrongGuesses
        draftPauses += other.draftPauses
        forcedTexts += other.forcedTexts
        rightForced += other.rightForced
        wrongForced += other.wrongForced
        windowedShares += other.windowedShares
        windowedHits += other.windowedHits
        stepsLeft += other.stepsLeft
        rowsYielded += other.rowsYielded
    }
}
