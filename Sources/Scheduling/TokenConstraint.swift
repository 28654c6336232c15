// The seam to whatever decides which tokens may come next: a grammar, a schema, a list of choices.
//
// A constraint is shared by all sequences of a request; each sequence walks it with a session of its own, which only
// ever moves forward, token by token as they become known. Preemption and recomputation do not touch it.

/// What the generated text must be, as far as tokens are concerned.
package protocol TokenConstraint: Sendable {
    /// A session that has seen no token yet.
    func makeSession() -> any TokenConstraintSession
}

/// One sequence's place in a constraint. Used by one thread, not always the one that made it.
package protocol TokenConstraintSession: AnyObject {
    /// Moves on by a generated token; false, and nothing moves, when the constraint does not allow it. Tokens that end
    /// the sequence are not shown to the session.
    func accept(_ token: TokenID) -> Bool

    /// Overwrites all of `words` [⌈vocab / 32⌉]: bit t % 32 of word t / 32 says whether token t may come next. Whether
    /// the sequence may end here is said by `isComplete` alone: the request's end tokens are added by the caller.
    func fillMask(_ words: inout [UInt32])

    /// Whether the text may end here.
    var isComplete: Bool { get }

    /// Tokens that spell what must follow, at most `limit`, without moving on. The text is certain and its division
    /// into tokens is not: each is a guess that is likely enough, and is verified under the mask of its place.
    func forcedTokens(limit: Int) -> [TokenID]

    /// A session at the same place, which goes its own way.
    func copy() -> any TokenConstraintSession
}
