// The seam between the ranks of a model that is cut into parts: two operations that every rank asks for in the same
// order, and the end of them all.
//
// A rank is a backend, its thread and its part of every matrix. Ranks compute the same activations but for what lies
// between a matrix cut by its outputs and the next, cut by its inputs: there each has a part, and `sum` or `gather`
// makes the parts whole. A rank that fails or does not come ends its group, and a group that has ended stays so.

import Synchronization

/// Which part of a model a rank has: the `rank`-th of `count` equal ones.
package struct Shard: Hashable, Sendable, CustomStringConvertible {
    /// 0 ..< count
    package let rank: Int
    package let count: Int

    /// The only part of a model that is not cut.
    package static let whole = Shard(rank: 0, of: 1)

    package init(rank: Int, of count: Int) {
        precondition(count >= 1 && rank >= 0 && rank < count, "rank \(rank) of \(count)")
        self.rank = rank
        self.count = count
    }

    package var isWhole: Bool { count == 1 }
    package var description: String { "rank \(rank) of \(count)" }
}

/// Why a group ended: one of its ranks, and what it was at.
package struct RankFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// The rank that failed or did not come, and how many there are.
    package let shard: Shard
    /// What it was to take part in: "sum 12", counted from the group's first, or "a step".
    package let call: String
    /// How long the others had waited for it; how long its call had taken where it failed itself.
    package let elapsed: Duration
    /// What it did: the end of a sentence that begins with the rank.
    package let reason: String

    package init(_ shard: Shard, call: String, elapsed: Duration, reason: String) {
        self.shard = shard
        self.call = call
        self.elapsed = elapsed
        self.reason = reason
    }

    package var description: String {
        let (seconds, attoseconds) = elapsed.components
        return "Rank \(shard.rank) of \(shard.count) ended the group in \(call) after "
            + "\(seconds).\(attoseconds / 100_000_000_000_000_000) s: it \(reason)."
    }
}

/// What the ranks of one group share: how many they are, how long they wait for one another, and how it ended.
package final class RankGroup: Sendable {
    package let count: Int
    /// How long a rank waits in one call for the others. One that is later has failed.
    package let deadline: Duration

    private struct Ending {
        var failure: RankFailure?
        var observers: [@Sendable (RankFailure) -> Void] = []
    }
    private let ending = Mutex(Ending())
    private let hasEnded = Atomic(false)

    package init(count: Int, deadline: Duration) {
        precondition(count >= 1 && deadline > .zero)
        self.count = count
        self.deadline = deadline
    }

    /// Why the group ended; nil while it lives. Cheap while it does.
    package var failure: RankFailure? {
        hasEnded.load(ordering: .acquiring) ? ending.withLock { $0.failure } : nil
    }

    /// Ends the group, from any thread. The first failure is the group's; later ones are its consequences and are
    /// dropped. Whoever waits in a call comes back at once, on every rank.
    package func end(_ failure: RankFailure) {
        let observers = ending.withLock { ending in
            guard ending.failure == nil else { return [@Sendable (RankFailure) -> Void]() }
            ending.failure = failure
            hasEnded.store(true, ordering: .releasing)
            defer { ending.observers = [] }
            return ending.observers
        }
        for observer in observers { observer(failure) }
    }

    /// Has `observer` called once when the group ends, on the thread that ends it: at once where it has ended. It is
    /// where an implementation lets go those who wait (a semaphore is signalled, a communicator aborted).
    package func whenEnded(_ observer: @escaping @Sendable (RankFailure) -> Void) {
        let failure = ending.withLock { ending in
            if ending.failure == nil { ending.observers.append(observer) }
            return ending.failure
        }
        if let failure { observer(failure) }
    }
}

/// One rank's side of a group's calls: `Backend.collectives`. It takes the tensors of its backend and takes effect in
/// order with that one's operations; lives on the rank's thread.
///
/// Every rank makes the same calls, of the same shapes, in the same order. Calls do not throw, as operations do not,
/// and may be captured and replayed with the rest of a step. After a call in which the group ended, and in all calls
/// after it, what is in the output does not matter: the backend's `collect` and `synchronize` then throw
/// `BackendError.rankFailure` with the group's failure, on every rank. No call and no `collect` waits
/// for longer than `group.deadline` without progress of the others; whoever waits longer ends the group in the name of
/// the rank that did not come.
package protocol Collectives: AnyObject {
    /// Which rank this is.
    var shard: Shard { get }
    /// The third call is its `end`.
    var group: RankGroup { get }

    /// x ← Σ x of all ranks, element by element. x: [rows, columns] f32, as long as in every other rank.
    ///
    /// Each element is ((rank 0 + rank 1) + rank 2) + … where an implementation has the choice. In any case it is added
    /// up in an order that depends on nothing but the shape, and once: all ranks get the same bits, and get them again
    /// when the call is repeated. Ranks that chose differently, or wrote different caches, would drift apart unseen.
    func sum(_ x: Tensor)

    /// output[i] ← parts of row i of all ranks, side by side in the order of ranks: a gather along the last axis.
    ///
    /// output: [rows, ranks × columns] f32. parts: [ranks × rows, columns] f32, room for every rank's rows one rank
    /// after another, of which this one has filled its own: rows [rank × rows, (rank + 1) × rows). The others' are
    /// overwritten or not, as the implementation likes; `parts` and `output` do not overlap.
    func gather(_ parts: Tensor, into output: Tensor)
}
