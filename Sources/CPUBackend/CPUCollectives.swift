// The calls of ranks that are threads of one process and see each other's memory. Each adds up a share of the elements
// for all, in the order of ranks, so that every rank has the same bits whoever came first.

import Tensors

/// A rank's place in a group of CPU backends.
package struct RankSeat: Sendable {
    let meeting: RankMeeting
    let shard: Shard

    package init(_ meeting: RankMeeting, rank: Int) {
        self.meeting = meeting
        shard = Shard(rank: rank, of: meeting.group.count)
    }
}

/// A CPU backend's side of its group's calls.
final class CPUCollectives: Collectives {
    private let meeting: RankMeeting
    let shard: Shard
    /// The backend that owns this.
    private unowned let backend: CPUBackend
    /// Calls so far, the same in every rank.
    private var number = 0
    /// [ranks] What each brought to the call; storage for the next.
    private var all: [Tensor] = []

    init(_ seat: RankSeat, _ backend: CPUBackend) {
        meeting = seat.meeting
        shard = seat.shard
        self.backend = backend
    }

    var group: RankGroup { meeting.group }

    func sum(_ x: Tensor) {
        together(.sum, x) {
            let count = x.elementCount
            let share = count * shard.rank / shard.count..<count * (shard.rank + 1) / shard.count
            let first = unsafe backend.floats(all[0])
            for other in all.dropFirst() {
                let terms = unsafe backend.floats(other)
                for index in share { unsafe first[index] += terms[index] }
            }
            for other in all.dropFirst() {
                unsafe (backend.floats(other) + share.lowerBound)
                    .update(from: first + share.lowerBound, count: share.count)
            }
        }
    }

    func gather(_ parts: Tensor, into output: Tensor) {
        let (rows, columns) = (output.rowCount, parts.rowElementCount)
        precondition(parts.rowCount == rows * shard.count && output.rowElementCount == columns * shard.count)
        together(.gather, parts) {
            let target = unsafe backend.floats(output)
            for (rank, other) in all.enumerated() {
                let source = unsafe backend.floats(other) + rank * rows * columns
                for row in 0..<rows {
                    unsafe (target + (row * shard.count + rank) * columns)
                        .update(from: source + row * columns, count: columns)
                }
            }
        }
    }

    /// Does this rank's share of a call between the time when all have come and the time when all are done.
    private func together(_ kind: RankCall.Kind, _ tensor: Tensor, _ work: () -> Void) {
        backend.runRecorded()
        number += 1
        let call = RankCall(kind: kind, number: number, elementCount: tensor.elementCount)
        if meeting.begin(call, rank: shard.rank, tensor, all: &all) {
            work()
            meeting.finish(call, rank: shard.rank)
        }
        all.removeAll(keepingCapacity: true)
    }
}
