// Where the ranks of a model in parts are, and how they meet: threads of the CPU in memory, GPUs by our kernels or
// through NCCL.

import CPUBackend
import CUDABackend
import Tensors

/// What the ranks of one group have in common, by the kind of their devices.
enum RankPlacement: Sendable {
    case host(RankMeeting)
    case devices(CUDARanks)

    /// - Parameter collectives: auto, peers, nccl, or the path of NCCL's library.
    /// - Throws: `BackendError.unsupported` where GPUs have no way to exchange.
    init(_ group: RankGroup, _ device: ComputeDevice, collectives: String) throws(BackendError) {
        guard case .cuda(let first, _) = device else {
            self = .host(RankMeeting(group))
            return
        }
        var choices: [DeviceChoice] = []
        for rank in 0..<group.count { choices.append(try first.ofRank(rank, of: group.count)) }
        let exchange: RankExchange
        switch collectives {
        case "auto", "peers":
            if try CUDARanks.reachOneAnother(choices, driver: Driver()) {
                exchange = .peers
            } else if collectives == "auto" {
                exchange = .nccl(try NCCL(rankCount: group.count))
            } else {
                throw .unsupported(
                    operation: "--collectives peers", reason: "not all of these GPUs read each other's memory")
            }
        case "nccl": exchange = .nccl(try NCCL(rankCount: group.count))
        default: exchange = .nccl(try NCCL(library: collectives, rankCount: group.count))
        }
        self = .devices(try CUDARanks(group, exchange: exchange))
    }

    /// A rank's place among threads of the CPU.
    func seat(_ rank: Int) -> RankSeat? {
        guard case .host(let meeting) = self else { return nil }
        return RankSeat(meeting, rank: rank)
    }
}

extension DeviceChoice {
    /// The device of a rank: the first one's, and those that follow it.
    func ofRank(_ rank: Int, of count: Int) throws(BackendError) -> DeviceChoice {
        switch self {
        case .first: return .ordinal(rank)
        case .ordinal(let ordinal): return .ordinal(ordinal + rank)
        case .uuid:
            throw .unsupported(
                operation: "--tensor-parallel-size \(count) on a GPU named by its UUID",
                reason: "ranks take GPUs by their numbers. Give --device cuda, and choose them by "
                    + "CUDA_VISIBLE_DEVICES")
        }
    }
}
