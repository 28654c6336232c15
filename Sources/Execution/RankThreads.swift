// The ranks of a model in parts, all but the first: each a thread with a backend, its part of the weights and its part
// of the cache. The first is the engine's. It tells the others each step before it computes it; they answer in the sums
// that all of them compute together, and in nothing else. Only the first takes samples, which the backends tell one
// another: the next step can be planned and told while the devices work on the one that samples.

import Dispatch
import Foundation
import Models
import Scheduling
import Synchronization
import Tensors

/// What the first rank tells the others.
private enum RankOrder: Sendable {
    /// Take memory for keys, values and steps, as the first rank does.
    case open(MemoryPlan, SchedulerLimits, KVCacheType)
    /// Copy your part of an adapter to a place.
    case install(LowRankAdapter, place: Int)
    case compute(RankStep)
    case end
}

/// A step as all ranks see it.
private final class RankStep: Sendable {
    let output: SchedulerOutput

    init(_ output: borrowing SchedulerOutput) { self.output = output.forOtherRanks() }
}

/// What one rank was told and has not done.
private final class RankOrders: Sendable {
    private let group: RankGroup
    private let queue = Mutex<[RankOrder]>([])
    private let signal = DispatchSemaphore(value: 0)

    init(_ group: RankGroup) {
        self.group = group
        group.whenEnded { [signal] _ in signal.signal() }
    }

    func post(_ order: RankOrder) {
        queue.withLock { $0.append(order) }
        signal.signal()
    }

    /// Waits for the next order; nil when the group has ended, or when none came for so long.
    func next(within patience: DispatchTimeInterval = .never) -> RankOrder? {
        let deadline = DispatchTime.now() + patience
        while group.failure == nil {
            if let order = queue.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return order }
            if signal.wait(timeout: deadline) == .timedOut { return nil }
        }
        return nil
    }
}

/// The threads of all ranks but the first.
final class RankThreads: Sendable {
    let group: RankGroup
    /// [ranks − 1]
    private let orders: [RankOrders]
    /// What each said when it had loaded its part: its memory for keys and values, where it knows.
    private let loaded = Mutex<[Result<Int?, any Error>]>([])
    private let hasLoaded = DispatchSemaphore(value: 0)
    private let hasEnded = DispatchSemaphore(value: 0)

    /// Starts the threads, each of which begins to load.
    /// - Parameter make: builds a rank's backend and its part of the model; called on its thread.
    init(_ group: RankGroup, make: @escaping @Sendable (Int) throws -> EngineParts) {
        self.group = group
        orders = (1..<max(1, group.count)).map { _ in RankOrders(group) }
        for rank in 1..<max(1, group.count) {
            let thread = Thread { [self] in
                run(Shard(rank: rank, of: group.count), orders[rank - 1], make)
                hasEnded.signal()
            }
            thread.name = "apus-rank-\(rank)"
            thread.stackSize = 8 << 20
            thread.start()
        }
    }

    // MARK: For the first rank

    /// Waits until all have loaded.
    /// - Returns: the least memory that one has for keys and values; nil where they do not know.
    func waitUntilLoaded() throws -> Int? {
        for _ in orders { hasLoaded.wait() }
        return try loaded.withLock { try $0.compactMap { try $0.get() }.min() }
    }

    /// Has all take their memory.
    func open(_ plan: MemoryPlan, _ limits: SchedulerLimits, _ type: KVCacheType) {
        for rank in orders { rank.post(.open(plan, limits, type)) }
    }

    /// Has all copy their parts of an adapter.
    func install(_ adapter: LowRankAdapter, at place: Int) {
        for rank in orders { rank.post(.install(adapter, place: place)) }
    }

    /// Has all compute a step.
    func compute(_ output: borrowing SchedulerOutput) {
        let step = RankStep(output)
        for rank in orders { rank.post(.compute(step)) }
    }

    /// Ends the group because of the first rank.
    func fail(_ error: any Error, in call: String) {
        group.end(Self.failure(Shard(rank: 0, of: group.count), call, after: .zero, error))
    }

    /// Has all end, and waits until they have, though not for one that hangs.
    func end() {
        for rank in orders { rank.post(.end) }
        let deadline = DispatchTime.now() + group.deadline.seconds
        for _ in orders where hasEnded.wait(timeout: deadline) == .timedOut { return }
    }

    // MARK: The others' threads

    /// How long a rank whose device still works waits for the next step, before it waits for the device: longer than
    /// planning takes, and soon enough to notice a device that fails, or one that waits for a rank that hangs.
    private static let patience = DispatchTimeInterval.milliseconds(10)

    private func run(_ shard: Shard, _ orders: RankOrders, _ make: (Int) throws -> EngineParts) {
        var (call, start) = ("loading", ContinuousClock.now)
        var isLoaded = false
        func report(_ result: Result<Int?, any Error>) {
            guard !isLoaded else { return }
            isLoaded = true
            loaded.withLock { $0.append(result) }
            hasLoaded.signal()
        }
        do {
            let parts = try make(shard.rank)
            report(.success(parts.cacheMemoryBytes))
            guard case .open(let plan, let limits, let type) = orders.next() else { return }
            var runner = try ModelRunner(parts: parts, plan: plan, limits: limits, kvCacheType: type)
            call = "a step"
            while group.failure == nil {
                switch orders.next(within: runner.isFollowing ? Self.patience : .never) {
                case .compute(let step):
                    start = .now
                    try runner.follow(step.output)
                case .install(let adapter, let place): parts.model.adapters?.install(adapter, at: place)
                case nil: try runner.waitForFollowed()
                case .open, .end: return
                }
            }
        } catch {
            // First of all the group's reason: the first rank, told of the failure, ends the group too.
            group.end(Self.failure(shard, call, after: start.duration(to: .now), error))
            report(.failure(error))
        }
    }

    private static func failure(
        _ shard: Shard, _ call: String, after elapsed: Duration, _ error: any Error
    ) -> RankFailure {
        let sentence = "\(error)"
        return RankFailure(
            shard, call: call, elapsed: elapsed,
            reason: "failed: " + (sentence.hasSuffix(".") ? String(sentence.dropLast()) : sentence))
    }
}
