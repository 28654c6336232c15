// Memory in which ranks on devices that reach one another leave what they show the others, and word that it is there.

import CUDADriver
import CUDAKernels
import Synchronization
import Tensors

/// One rank's staging memory and signals, and the addresses of everybody's.
@safe
final class PeerMemory {
    /// Elements of a half of the staging memory: 8 MB, 512 rows of 4,096.
    let stagingCount = 2 << 20
    /// What every call of this rank takes.
    let peers: cuda_peers
    private let staging: DeviceBuffer
    private let signals: DeviceBuffer
    /// Where a kernel names the rank it waited for in vain, and reads that it need not wait any more.
    private let notice: Notice

    init(_ ranks: CUDARanks, _ shard: Shard, device: Device, stream: borrowing Stream) throws(BackendError) {
        let staging = try device.allocate(byteCount: 2 * 4 * stagingCount, purpose: "what ranks show one another")
        let signals = try device.allocate(byteCount: Int(cuda_signal_bytes()), purpose: "signals between ranks")
        let cleared = unsafe device.driver.calls.fill(
            cuda_pointer(signals.address), 0, signals.byteCount, stream.handle)
        try device.driver.check(cleared, "clearing signals between ranks")
        try stream.synchronize("clearing signals between ranks")
        let offers = try ranks.rendezvous.meet(
            shard, round: 0, offer: [staging.address, signals.address, device.contextAddress],
            call: "the start of the group")
        for (rank, offer) in offers.enumerated() where rank != shard.rank {
            try device.reach(contextAt: offer[2])
        }
        let notice = try Notice(device: device)
        ranks.group.whenEnded { [weak notice] _ in notice?.giveUp() }
        let (seconds, _) = (ranks.group.deadline * 2).components
        peers = cuda_peers(
            staging: CUDACollectives.tuple(offers.map { $0[0] }), signals: CUDACollectives.tuple(offers.map { $0[1] }),
            notice: cuda_address(notice.address), patience: max(1, seconds) * 1_000_000_000,
            staging_count: Int64(stagingCount), rank: Int32(shard.rank), ranks: Int32(shard.count))
        self.staging = staging
        self.signals = signals
        self.notice = notice
        device.missedRank = { [weak notice] in notice?.missedRank }
    }
}

/// Two words of host memory between a rank's kernels and whichever thread ends the group.
@safe
// The words are only read and written whole, and freed when nobody has the notice any more.
final class Notice: @unchecked Sendable {
    private let memory: PinnedMemory

    init(device: Device) throws(BackendError) { memory = try PinnedMemory(byteCount: 64, device: device) }

    var address: UInt { unsafe UInt(bitPattern: memory.bytes.baseAddress) }

    /// The rank that a kernel waited for in vain, if one did.
    var missedRank: Int? {
        let word = unsafe memory.bytes.load(as: UInt32.self)
        return word == 0 ? nil : Int(word) - 1
    }

    /// Lets kernels that wait go on.
    func giveUp() { unsafe memory.bytes.storeBytes(of: 1, toByteOffset: 4, as: UInt32.self) }
}
