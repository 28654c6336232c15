// Bugs that the simulation plants, to show that it would find them.
//
// Each costs one test of a bit where it is planted. The server has no way to set them: only `Scheduler.init` takes
// them, and everything but the tests leaves them empty.

/// Planted bugs.
package struct SchedulerFaults: OptionSet, Sendable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Not a bug: keys have four bits, so collisions are common and must not matter.
    package static let weakHash = SchedulerFaults(rawValue: 1 << 0)
    /// An aborted sequence loses its references instead of releasing them.
    package static let leaksOnAbort = SchedulerFaults(rawValue: 1 << 1)
    /// An abort frees blocks that the step in flight still writes.
    package static let reusesEarly = SchedulerFaults(rawValue: 1 << 2)
    /// A sequence is given a row that another one has.
    package static let sharesSlot = SchedulerFaults(rawValue: 1 << 3)
    /// A lookup believes the hash without comparing contents.
    package static let trustsHash = SchedulerFaults(rawValue: 1 << 4)
    /// Sharing a held block does not count the new holder.
    package static let missesReference = SchedulerFaults(rawValue: 1 << 5)
    /// The first block of a table is released twice.
    package static let releasesTwice = SchedulerFaults(rawValue: 1 << 6)
    /// Preemption forgets to set the computed count to 0.
    package static let keepsComputedCount = SchedulerFaults(rawValue: 1 << 7)
    /// Prefills do not look at the token budget.
    package static let ignoresBudget = SchedulerFaults(rawValue: 1 << 8)
    /// A block is published when its first token is computed.
    package static let publishesUnfilled = SchedulerFaults(rawValue: 1 << 9)
    /// Blocks of a sequence whose logits were not finite can be found again.
    package static let publishesNonFinite = SchedulerFaults(rawValue: 1 << 10)
    /// Preemption drops the generated tokens, so that they are sampled and reported again.
    package static let resamples = SchedulerFaults(rawValue: 1 << 11)
    /// A preempted sequence does not return to the waiting queue.
    package static let losesPreempted = SchedulerFaults(rawValue: 1 << 12)
    /// The oldest sequence is preempted instead of the newest.
    package static let preemptsOldest = SchedulerFaults(rawValue: 1 << 13)
    /// Claims on blocks outlive their step, so that others wait for ever.
    package static let keepsClaims = SchedulerFaults(rawValue: 1 << 14)
    /// A prefill that does not reach its last known token samples all the same.
    package static let samplesEarly = SchedulerFaults(rawValue: 1 << 15)
    /// The salt is left out of keys and comparison, so that tenants find each other's blocks.
    package static let ignoresSalt = SchedulerFaults(rawValue: 1 << 16)
    /// A sequence that must give way while a step in flight writes its blocks loses them at once.
    package static let withdrawsInFlight = SchedulerFaults(rawValue: 1 << 17)
    /// A token computed for a sequence that had ended by then is reported.
    package static let keepsLateTokens = SchedulerFaults(rawValue: 1 << 18)
    /// A tenant's counter is not lifted when it comes back, so that it can save up credit.
    package static let banksCredit = SchedulerFaults(rawValue: 1 << 19)
    /// Deadlines are not looked at on arrival.
    package static let acceptsHopeless = SchedulerFaults(rawValue: 1 << 20)
    /// A block that held something that is not a number is given out as it is.
    package static let skipsScrub = SchedulerFaults(rawValue: 1 << 21)
    /// Nothing bounds how often a request loses its blocks.
    package static let preemptsForEver = SchedulerFaults(rawValue: 1 << 22)
    /// Guesses count whatever was sampled.
    package static let acceptsWrongDrafts = SchedulerFaults(rawValue: 1 << 23)
    /// Tokens that were guessed wrong count as computed.
    package static let countsRejected = SchedulerFaults(rawValue: 1 << 24)
    /// Blocks of wrong guesses stay with their sequence.
    package static let keepsRejectedBlocks = SchedulerFaults(rawValue: 1 << 25)
    /// A sequence that ends among accepted guesses goes on with the rest of them.
    package static let runsPastEnd = SchedulerFaults(rawValue: 1 << 26)
    /// A prompt that ends at the edge of a block takes its last block from the cache too.
    package static let sharesLastBlock = SchedulerFaults(rawValue: 1 << 27)
    /// A block that is given out can still be found by what it held before.
    package static let keepsStaleIndex = SchedulerFaults(rawValue: 1 << 28)
    /// A sequence that gives way does not give its row back.
    package static let leaksRow = SchedulerFaults(rawValue: 1 << 29)
    /// Deadlines of those that wait are not looked at.
    package static let missesDeadlines = SchedulerFaults(rawValue: 1 << 30)
    /// A block is given up that still lies within the window.
    package static let hidesEarly = SchedulerFaults(rawValue: 1 << 31)
    /// A hit is taken although windowed groups lack blocks of its last window.
    package static let matchesHoles = SchedulerFaults(rawValue: 1 << 32)
    /// What lies behind the window is given up by the group that sees everything.
    package static let hidesWrongGroup = SchedulerFaults(rawValue: 1 << 33)
    /// A windowed group's block that is given out can still be found.
    package static let keepsCompany = SchedulerFaults(rawValue: 1 << 34)
    /// What is given up behind the window of a prompt is given out as it is.
    package static let trustsHidden = SchedulerFaults(rawValue: 1 << 35)
    /// Admission counts the blocks of the first group of layers only.
    package static let ignoresGroups = SchedulerFaults(rawValue: 1 << 36)
}

/// What a deep check found broken.
package struct InvariantViolation: Error, CustomStringConvertible {
    /// The sentence, with the numbers.
    package let description: String

    /// Records one violation.
    package init(_ description: String) { self.description = description }
}
