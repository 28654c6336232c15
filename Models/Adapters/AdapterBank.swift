// Where a model's adapters lie on the device: room for all of them is made while the model is loaded, one place after
// another in each matrix's tensors, so that loading an adapter is a copy and its address never changes.

import Checkpoints
import Tensors

/// The adapters of one model. Lives on the engine thread.
package final class AdapterBank {
    package let limits: AdapterLimits
    /// What a rank has of the model; nil for a model in one part.
    private let plan: ShardPlan?
    private let backend: any Backend
    private var targets: [AdapterTarget] = []
    /// [targets]
    private var deltas: [LowRankDeltas] = []
    /// [targets, places] What the ranks' tensors hold.
    private var ranks: [[Int32]] = []
    /// Bytes of all places.
    package private(set) var byteCount = 0

    /// Throws where the backend has no adapters.
    init(_ limits: AdapterLimits, plan: ShardPlan?, backend: any Backend) throws(BackendError) {
        guard limits.count > 0, (1...AdapterLimits.largestRank).contains(limits.maxRank) else {
            throw .unsupported(
                operation: "\(limits.count) adapters of rank \(limits.maxRank)",
                reason: "there must be at least one, of rank 1 to \(AdapterLimits.largestRank)")
        }
        try backend.require(.adapters)
        self.limits = limits
        self.plan = plan
        self.backend = backend
    }

    /// What adapters must fit.
    package var layout: AdapterLayout {
        AdapterLayout(limits: limits, targets: targets, plans: plan?.ofAllRanks ?? [])
    }

    /// Makes room for the changes of a matrix whose first output is the `firstColumn`-th of the stack it is part of.
    func add(_ target: AdapterTarget, firstColumn: Int) throws(BackendError) -> LowRankDeltas {
        let rows = limits.count * limits.maxRank
        let new = LowRankDeltas(
            maxRank: limits.maxRank,
            down: try backend.allocate([rows, target.columnCount], .f32, purpose: "adapters"),
            up: try backend.allocate([rows, target.rowCount], .f32, purpose: "adapters"),
            ranks: try backend.allocate([limits.count], .i32, purpose: "adapters"), firstColumn: firstColumn)
        targets.append(target)
        deltas.append(new)
        ranks.append(Array(repeating: 0, count: limits.count))
        backend.upload(ranks[ranks.count - 1], count: limits.count, to: new.ranks)
        byteCount += rows * (target.columnCount + target.rowCount) * 4 + limits.count * 4
        return new
    }

    /// Copies an adapter, or the rank's part of it, to a place. Steps that were begun before see what was there.
    package func install(_ adapter: LowRankAdapter, at place: Int) {
        let changes = adapter.changes[plan?.shard.rank ?? 0]
        precondition(changes.count == targets.count && place < limits.count, "an adapter of another model")
        let first = place * limits.maxRank
        for (index, change) in changes.enumerated() {
            ranks[index][place] = Int32(change?.rank ?? 0)
            backend.upload(ranks[index], count: limits.count, to: deltas[index].ranks)
            guard let change else { continue }
            backend.upload(change.down, to: deltas[index].down.rows(first..<first + change.rank))
            backend.upload(change.up, to: deltas[index].up.rows(first..<first + change.rank))
        }
    }
}
