// Ranks without an engine: each on a thread and a CPU backend of its own.

import CPUBackend
import Dispatch
import Foundation
import Synchronization
import Tensors

/// Runs `body` on every rank of `group` at once; returns what each gave, in the order of ranks.
package func onRanks<Output: Sendable>(
    _ group: RankGroup, precision: ComputePrecision = .float32, threads: Int = 1,
    _ body: @escaping @Sendable (Int, CPUBackend) throws -> Output
) -> [Result<Output, any Error>] {
    let meeting = RankMeeting(group)
    let outputs = Outputs<Output>()
    let done = DispatchSemaphore(value: 0)
    for rank in 0..<group.count {
        let thread = Thread {
            let output = Result {
                let seat = RankSeat(meeting, rank: rank)
                return try body(
                    rank, CPUBackend(precision: precision, instructionSet: nil, threads: threads, seat: seat))
            }
            outputs.byRank.withLock { $0[rank] = output }
            done.signal()
        }
        thread.stackSize = 8 << 20
        thread.start()
    }
    for _ in 0..<group.count { done.wait() }
    let all = outputs.byRank.withLock { $0 }
    return (0..<group.count).compactMap { all[$0] }
}

private final class Outputs<Output: Sendable>: Sendable {
    let byRank = Mutex<[Int: Result<Output, any Error>]>([:])
}
