// Guessing tokens ahead: several guesses are verified in one step, and those that the model would have chosen stay.
//
// A draft is never trusted. Each of its rows is sampled as if nobody had guessed, with the draw of its own position,
// and a guess counts only while it equals what was sampled. So the text is the same with and without speculation, at
// any temperature; only the number of steps differs. Where a grammar forces the text, its tokens are such guesses too
// ("jump-forward").

/// How many tokens are guessed, and from what.
package struct SpeculationLimits: Sendable, Equatable {
    /// Most tokens guessed per step and sequence (`num_speculative_tokens`); 0 is off.
    package let draftTokenCount: Int
    /// Tokens at the end of a sequence that are looked up in it (`prompt_lookup_min` to `prompt_lookup_max`).
    package let patternSizes: ClosedRange<Int>
    /// Most tokens of a text that a constraint forces that are computed in one step; 0 is one by one.
    package let forcedTokenCount: Int

    /// Nothing is guessed but what must come.
    package static let off = SpeculationLimits(draftTokenCount: 0)

    /// Gathers the fields; `SchedulerLimits` checks them.
    package init(draftTokenCount: Int, patternSizes: ClosedRange<Int> = 2...4, forcedTokenCount: Int = 16) {
        self.draftTokenCount = draftTokenCount
        self.patternSizes = patternSizes
        self.forcedTokenCount = forcedTokenCount
    }
}

/// Guesses how a sequence goes on. The seam for a draft model: the scheduler asks for the sequences of a step one after
/// another, and what comes back is verified whatever it is.
package protocol DraftProposer {
    /// Appends at most `count` guesses for the tokens that follow `tokens`. Of one request the tokens only grow.
    mutating func propose(_ count: Int, after tokens: [TokenID], for id: RequestID, into drafts: inout [TokenID])
    /// The request has ended.
    mutating func forget(_ id: RequestID)
}

/// Totals of speculation.
package struct SpeculationStatistics: Sendable, Equatable {
    /// Total of drafts verified.
    package var drafts = 0
    /// Total of tokens in them.
    package var draftTokens = 0
    /// [draft tokens per draft] Total of those that were accepted, by place in the draft.
    package var acceptedPerPosition: [Int] = []
    /// Total of times that a request stopped guessing because too few guesses were right.
    package var pauses = 0

    /// Total of tokens that were guessed right.
    package var acceptedTokens: Int { acceptedPerPosition.reduce(0, +) }

    /// All zero.
    package init() {}

    mutating func record(drafted: Int, accepted: Int) {
        drafts += 1
        draftTokens += drafted
        while acceptedPerPosition.count < drafted { acceptedPerPosition.append(0) }
        for position in 0..<accepted { acceptedPerPosition[position] += 1 }
    }
}

/// Decides for one sequence how much to guess. A draft grows while all of it is right and shrinks to what was right.
/// When less than a quarter of the last guesses were, the sequence stops guessing for some tokens, longer each time.
struct DraftControl {
    private static let window = 16
    private static let shortestPause = 32
    private static let longestPause = 1024

    /// Guesses for the next draft.
    private(set) var length: Int
    private let most: Int
    /// Within the current window.
    private var drafted = 0
    private var accepted = 0
    private var pause = shortestPause
    /// Tokens generated before guessing goes on.
    private var resumesAt = 0

    init(most: Int) {
        self.most = most
        length = min(most, 4)
    }

    func isPaused(generatedTokenCount: Int) -> Bool { generatedTokenCount < resumesAt }

    /// Takes in one verified draft; true when the sequence stops guessing for a while.
    mutating func record(drafted: Int, accepted: Int, generatedTokenCount: Int) -> Bool {
        length = accepted == drafted ? min(most, max(length, 2 * drafted)) : max(1, min(most, accepted + 1))
        self.drafted += drafted
        self.accepted += accepted
        guard self.drafted >= Self.window else { return false }
        let isPoor = self.accepted * 4 < self.drafted
        if isPoor {
            resumesAt = generatedTokenCount + pause
            pause = min(2 * pause, Self.longestPause)
        } else {
            pause = Self.shortestPause
        }
        self.drafted = 0
        self.accepted = 0
        return isPoor
    }
}
