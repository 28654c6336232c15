// Where ranks that are threads of one process meet: nobody goes on before all have come. Who waits too long, or finds
// that another came for something else, ends the group.

import Dispatch
import Synchronization
import Tensors

/// A call that ranks meet for.
struct RankCall: Equatable, Sendable, CustomStringConvertible {
    enum Kind: String { case sum, gather }
    let kind: Kind
    /// 1 for the group's first.
    let number: Int
    /// Elements of the tensor that each brings.
    let elementCount: Int

    var description: String { "\(kind.rawValue) \(number)" }
}

/// The meeting place of a group's ranks on the CPU.
package final class RankMeeting: Sendable {
    package let group: RankGroup

    /// What a rank brings to a call.
    ///
    /// Sendable, unchecked: a tensor is read and written by others only while its rank waits in the call. Its memory,
    /// which a late rank may still write to when the group has ended, is kept here, and any thread can give it back.
    private struct Offer: @unchecked Sendable {
        let call: RankCall
        let tensor: Tensor
    }

    private struct State {
        /// [ranks] What each brought last; none has brought anything at first.
        var offers: [Offer?]
        /// [ranks] Who has come to the meeting that is next.
        var isHere: [Bool]
    }
    private let state: Mutex<State>
    /// [ranks] Rung once for each meeting that a rank waits for, and when the group ends.
    private let bells: [DispatchSemaphore]

    package init(_ group: RankGroup) {
        self.group = group
        state = Mutex(
            State(
                offers: Array(repeating: nil, count: group.count), isHere: Array(repeating: false, count: group.count)))
        bells = (0..<group.count).map { _ in DispatchSemaphore(value: 0) }
        group.whenEnded { [bells] _ in
            for bell in bells { bell.signal() }
        }
    }

    /// Waits until every rank has come with its tensor, and appends all of them to `tensors`, in the order of ranks;
    /// false when the group has ended.
    func begin(_ call: RankCall, rank: Int, _ tensor: Tensor, all tensors: inout [Tensor]) -> Bool {
        let offer = Offer(call: call, tensor: tensor)
        guard meet(call, rank: rank, offer) else { return false }
        for other in bells.indices {
            guard let offer = state.withLock({ $0.offers[other] }), offer.call == call else {
                end(because: other, call, after: .zero, "came for something else than \(call) of rank \(rank)")
                return false
            }
            tensors.append(offer.tensor)
        }
        return true
    }

    /// Waits until every rank is done with what the others brought.
    func finish(_ call: RankCall, rank: Int) { _ = meet(call, rank: rank, nil) }

    private func meet(_ call: RankCall, rank: Int, _ offer: Offer?) -> Bool {
        guard group.failure == nil else { return false }
        let isLast = state.withLock { state in
            if let offer { state.offers[rank] = offer }
            state.isHere[rank] = true
            guard !state.isHere.contains(false) else { return false }
            for other in state.isHere.indices { state.isHere[other] = false }
            return true
        }
        if isLast {
            for other in bells.indices where other != rank { bells[other].signal() }
        } else if !waitForBell(rank) {
            let late = state.withLock { $0.isHere[rank] ? $0.isHere.firstIndex(of: false) : nil }
            if let late {
                end(because: late, call, after: group.deadline, "did not come")
            } else {
                // The last one came at the last moment, and is about to ring.
                bells[rank].wait()
            }
        }
        return group.failure == nil
    }

    /// False when the deadline has passed. Counts its own ticks: a process that was stopped did not wait meanwhile.
    private func waitForBell(_ rank: Int) -> Bool {
        let tick = (group.deadline / Self.tickCount).dispatchInterval
        for _ in 0..<Self.tickCount where bells[rank].wait(timeout: .now() + tick) == .success { return true }
        return false
    }

    private static let tickCount = 10

    private func end(because rank: Int, _ call: RankCall, after elapsed: Duration, _ reason: String) {
        group.end(
            RankFailure(Shard(rank: rank, of: group.count), call: "\(call)", elapsed: elapsed, reason: reason))
    }
}

extension Duration {
    /// The same time for Dispatch, to a microsecond.
    fileprivate var dispatchInterval: DispatchTimeInterval {
        .microseconds(Int(components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000))
    }
}
