// What the ranks of one group on CUDA devices have in common: how they exchange, where each is, and who watches.
//
// A rank's thread may sleep inside the driver until its device is done, and its device until another rank has come.
// So nobody who waits can be the one to notice: a thread of the group's own looks at how far each rank is and how long
// each has waited, and ends the group in the name of the one that is behind. That lets all of them go.

import CUDADriver
import CUDAKernels
import Dispatch
import Foundation
import Synchronization
import Tensors

/// How ranks on CUDA devices exchange what they have computed.
package enum RankExchange: Sendable {
    /// Through NVIDIA's library, one device for each rank. It chooses the order of additions, by size.
    case nccl(NCCL)
    /// By our own kernels, one device for each rank, which read the others' memory: the same bits for any size.
    case peers
    /// All on one device, which adds for all of them: proves what ranks compute, and is no faster than one.
    case oneDevice
}

/// The group as every rank of it sees it. Made before their threads begin.
package final class CUDARanks: Sendable {
    package let group: RankGroup
    let exchange: RankExchange
    let rendezvous: Rendezvous
    /// [ranks]
    let progress: [RankProgress]
    /// What makes this group one, for the library.
    let identity: nccl_identity?
    private let communicators = Mutex<[WatchedCommunicator]>([])

    /// A rank's, which goes with the rank.
    private struct WatchedCommunicator {
        weak var communicator: Communicator?
    }

    /// - Throws: `BackendError.unsupported` for more ranks than there are kernels for.
    package init(_ group: RankGroup, exchange: RankExchange) throws(BackendError) {
        guard group.count <= CUDA_MOST_RANKS else {
            throw .unsupported(
                operation: "--tensor-parallel-size \(group.count)",
                reason: "there may be \(CUDA_MOST_RANKS) ranks at most")
        }
        self.group = group
        self.exchange = exchange
        rendezvous = Rendezvous(group)
        progress = (0..<group.count).map { _ in RankProgress() }
        if case .nccl(let nccl) = exchange { identity = try nccl.makeIdentity() } else { identity = nil }
        let interval = max(0.002, min(0.25, group.deadline / .seconds(10)))
        let thread = Thread { [weak self] in
            while let interval = self?.look(interval) { Thread.sleep(forTimeInterval: interval) }
        }
        thread.name = "apus-ranks"
        thread.start()
    }

    /// Whether the devices of `choices` are different ones that all read each other's memory.
    package static func reachOneAnother(_ choices: [DeviceChoice], driver: Driver) throws(BackendError) -> Bool {
        var ordinals: [Int32] = []
        for choice in choices { ordinals.append(try Device.look(choice, driver: driver).ordinal) }
        for one in ordinals.indices {
            for other in ordinals.indices where one != other {
                var can: Int32 = 0
                let result = unsafe driver.calls.device_reaches(&can, ordinals[one], ordinals[other])
                try driver.check(result, "asking which devices reach one another")
                if can == 0 { return false }
            }
        }
        return true
    }

    /// Has the communicator asked for errors that nobody waits for.
    func watch(_ communicator: Communicator) {
        communicators.withLock { $0.append(WatchedCommunicator(communicator: communicator)) }
    }

    /// Ends the group in the name of `shard`, and returns the failure that ended it.
    func end(_ shard: Shard, call: String, elapsed: Duration, reason: String) -> RankFailure {
        let failure = RankFailure(shard, call: call, elapsed: elapsed, reason: reason)
        group.end(failure)
        return group.failure ?? failure
    }

    /// One look; nil when there is nothing to look for any more.
    private func look(_ interval: Double) -> Double? {
        guard group.failure == nil else { return nil }
        let waits = progress.map { $0.waited }
        for watched in communicators.withLock({ $0 }) {
            guard let communicator = watched.communicator, let error = communicator.asynchronousError()
            else { continue }
            let shard = communicator.shard
            _ = end(shard, call: "a step", elapsed: waits[shard.rank] ?? .zero, reason: error)
        }
        guard let longest = waits.indices.max(by: { waits[$0] ?? .zero < waits[$1] ?? .zero }),
            let elapsed = waits[longest], elapsed > group.deadline
        else { return interval }
        let counts = progress.map { $0.count }
        let least = counts.min() ?? 0
        if least < counts[longest], let late = counts.firstIndex(of: least) {
            _ = end(shard(late), call: "call \(least + 1)", elapsed: elapsed, reason: "did not come")
        } else {
            _ = end(
                shard(longest), call: "a step", elapsed: elapsed,
                reason: "asked for all calls, and its device did not end them")
        }
        return interval
    }

    private func shard(_ rank: Int) -> Shard { Shard(rank: rank, of: group.count) }
}

/// How far a rank is. Written by its thread, read by the one that watches.
final class RankProgress: Sendable {
    private static let start = ContinuousClock.now
    private let calls = Atomic<Int>(0)
    /// Nanoseconds from `start` to the beginning of the wait under way; 0 where there is none.
    private let waitsSince = Atomic<Int>(0)

    /// Calls of the group asked for, replayed ones included.
    var count: Int { calls.load(ordering: .relaxed) }

    func add(_ count: Int) { calls.add(count, ordering: .relaxed) }

    /// How long it has waited for its device; nil when it does not.
    var waited: Duration? {
        let since = waitsSince.load(ordering: .relaxed)
        return since == 0 ? nil : .nanoseconds(Self.now - since)
    }

    /// Does `body`, which waits for the device.
    func waiting<Result>(_ body: () -> Result) -> Result {
        waitsSince.store(Self.now, ordering: .relaxed)
        defer { waitsSince.store(0, ordering: .relaxed) }
        return body()
    }

    private static var now: Int {
        let (seconds, attoseconds) = start.duration(to: .now).components
        return max(1, Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000))
    }
}

/// Where the ranks' threads meet, to tell one another numbers (addresses, handles).
final class Rendezvous: Sendable {
    private struct Round {
        var offers: [[UInt]?]
        var taken = 0
    }

    private let group: RankGroup
    /// By number; those that not all ranks have left.
    private let rounds = Mutex<[Int: Round]>([:])
    /// [ranks] rung when a round is complete.
    private let bells: [DispatchSemaphore]

    init(_ group: RankGroup) {
        self.group = group
        bells = (0..<group.count).map { _ in DispatchSemaphore(value: 0) }
        group.whenEnded { [bells] _ in for bell in bells { bell.signal() } }
    }

    /// Waits until all ranks have come to this round.
    /// - Returns: [ranks] what each has brought.
    func meet(_ shard: Shard, round: Int, offer: [UInt], call: String) throws(BackendError) -> [[UInt]] {
        let start = ContinuousClock.now
        let isLast = rounds.withLock { rounds in
            var meeting = rounds[round] ?? Round(offers: Array(repeating: nil, count: group.count))
            meeting.offers[shard.rank] = offer
            rounds[round] = meeting
            return meeting.offers.allSatisfy { $0 != nil }
        }
        if isLast { for rank in 0..<group.count where rank != shard.rank { bells[rank].signal() } }
        while true {
            if let failure = group.failure { throw .rankFailure(failure) }
            if let offers = take(round) { return offers }
            let left = group.deadline - start.duration(to: .now)
            let (seconds, attoseconds) = left.components
            let nanoseconds = Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000)
            guard left > .zero, bells[shard.rank].wait(timeout: .now() + .nanoseconds(nanoseconds)) == .success else {
                let missing = rounds.withLock { $0[round]?.offers.firstIndex { $0 == nil } }
                guard let missing else { continue }
                group.end(
                    RankFailure(
                        Shard(rank: missing, of: group.count), call: call, elapsed: start.duration(to: .now),
                        reason: "did not come"))
                continue
            }
        }
    }

    /// The offers of a round that is complete.
    private func take(_ round: Int) -> [[UInt]]? {
        rounds.withLock { rounds in
            guard var meeting = rounds[round], meeting.offers.allSatisfy({ $0 != nil }) else { return nil }
            meeting.taken += 1
            rounds[round] = meeting.taken == group.count ? nil : meeting
            return meeting.offers.compactMap { $0 }
        }
    }
}
