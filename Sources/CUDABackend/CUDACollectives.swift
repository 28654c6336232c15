// One rank's calls on a CUDA device: launches on its backend's stream, captured and replayed like any other.
//
// Ranks on one device cannot wait for each other in kernels, of which the first might keep the second from beginning:
// there the host brings the streams together, and one launch adds for all.

import CUDADriver
import CUDAKernels
import Tensors

/// The CUDA implementation of `Collectives`. Lives on its rank's thread, and no longer than its backend.
@safe
package final class CUDACollectives: Collectives {
    package let shard: Shard
    package let group: RankGroup
    let ranks: CUDARanks
    private unowned let backend: CUDABackend
    private let way: Way
    /// [ranks × rows] i32: what all said that they had chosen, the first rank first.
    private let samples: DeviceBuffer
    /// Meetings of the host's threads so far.
    private var round = 0

    /// What a rank needs for the group's exchange.
    private enum Way {
        case nccl(Communicator)
        case peers(PeerMemory)
        case oneDevice(arrived: Event.Owner, done: Event.Owner)
    }

    /// Takes part in the start of the group; returns when all ranks have.
    init(_ ranks: CUDARanks, _ shard: Shard, backend: CUDABackend) throws(BackendError) {
        self.ranks = ranks
        self.shard = shard
        self.backend = backend
        group = ranks.group
        samples = try backend.device.allocate(
            byteCount: backend.sampler.samples.byteCount, purpose: "sampled tokens of ranks")
        switch ranks.exchange {
        case .nccl(let nccl):
            guard let identity = ranks.identity else { preconditionFailure("a group of the library has an identity") }
            // A thread that never came would keep the library waiting where nobody looks.
            _ = try ranks.rendezvous.meet(shard, round: 0, offer: [], call: "the start of the group")
            let communicator = try Communicator(nccl, identity: identity, shard: shard, group: group)
            ranks.watch(communicator)
            way = .nccl(communicator)
        case .peers:
            way = .peers(try PeerMemory(ranks, shard, device: backend.device, stream: backend.stream))
        case .oneDevice:
            guard !backend.options.usesGraphs else {
                throw .unsupported(
                    operation: "ranks that share a device", reason: "their steps cannot be captured; use no graphs")
            }
            way = .oneDevice(
                arrived: Event.Owner(try Event(device: backend.device)),
                done: Event.Owner(try Event(device: backend.device)))
        }
        round = 1
    }

    /// For the start-up report: how many ranks there are, and how they exchange.
    var summary: String {
        switch ranks.exchange {
        case .nccl(let nccl): "\(shard.count) ranks through NCCL \(nccl.version)"
        case .peers: "\(shard.count) ranks that read each other's memory"
        case .oneDevice: "\(shard.count) ranks on one device"
        }
    }

    package func sum(_ x: Tensor) {
        precondition(x.dtype == .f32 && x.address % 16 == 0, "sums are over f32")
        call("sum") { (name) throws(BackendError) in
            switch way {
            case .nccl(let communicator):
                try unsafe communicator.sum(
                    x.address, count: x.elementCount, stream: backend.stream.handle, call: name)
            case .peers(let memory): if !backend.hold(sumOf: x, memory.peers) { sum(x, memory) }
            case .oneDevice(let arrived, let done):
                try together(x.address, name, arrived: arrived.event, done: done.event) { addresses in
                    let arguments = cuda_add_ranks_arguments(
                        parts: Self.tuple(addresses), count: Int64(x.elementCount), ranks: Int32(shard.count),
                        unused: 0)
                    unsafe backend.launch(cuda_add_ranks_launch, arguments, name)
                }
            }
        }
    }

    package func gather(_ parts: Tensor, into output: Tensor) {
        let (rows, columns) = (parts.rowCount / shard.count, parts.rowElementCount)
        precondition(
            parts.dtype == .f32 && output.rowCount >= rows && output.rowElementCount == shard.count * columns
                && parts.rowCount % shard.count == 0)
        let slice = UInt(4 * rows * columns)
        let own = parts.address + UInt(shard.rank) * slice
        call("gather") { (name) throws(BackendError) in
            switch way {
            case .nccl(let communicator):
                try unsafe communicator.gather(
                    parts.address, count: rows * columns, stream: backend.stream.handle, call: name)
                let places = (0..<shard.count).map { parts.address + UInt($0) * slice }
                join(places, into: output.address, rows: rows, columns: columns, name)
            case .peers(let memory):
                gather(own, into: output.address, rows: rows, columns: columns, memory)
            case .oneDevice(let arrived, let done):
                // Every rank's output, one after another: each offers its own part and where it wants all of them.
                try together(own, output.address, name, arrived: arrived.event, done: done.event) { own, outputs in
                    for output in outputs { join(own, into: output, rows: rows, columns: columns, name) }
                }
            }
        }
    }

    // MARK: Samples

    /// Has every rank know what the latest `count` rows chose on the first: a gather of words, of which the others
    /// bring any.
    func tellSamples(_ count: Int) {
        let parts = Tensor(buffer: backend.sampler.samples, shape: [shard.count, count], dtype: .f32)
        gather(parts, into: Tensor(buffer: samples, shape: [1, shard.count * count], dtype: .f32))
    }

    /// Where this rank finds them.
    var samplesAddress: cuda_address {
        shard.rank == 0 ? backend.sampler.samplesAddress : cuda_address(samples.address)
    }

    // MARK: Calls

    /// Counts a call and asks for it, unless the group or the device has failed.
    private func call(_ kind: String, _ body: (String) throws(BackendError) -> Void) {
        let progress = ranks.progress[shard.rank]
        let name = "\(kind) \(progress.count + 1)"
        progress.add(1)
        // What the others wait for must have been asked for.
        backend.settle()
        backend.attempt { () throws(BackendError) in
            if let failure = group.failure { throw .rankFailure(failure) }
            try body(name)
        }
    }

    private func join(_ parts: [UInt], into output: UInt, rows: Int, columns: Int, _ name: String) {
        let arguments = cuda_join_ranks_arguments(
            parts: Self.tuple(parts), output: cuda_address(output), rows: Int32(rows), columns: Int32(columns),
            ranks: Int32(shard.count), unused: 0)
        unsafe backend.launch(cuda_join_ranks_launch, arguments, name)
    }

    // MARK: Peers

    private func sum(_ x: Tensor, _ memory: PeerMemory) {
        // A message longer than the staging memory is added piece by piece, to the same bits.
        for first in stride(from: 0, to: x.elementCount, by: memory.stagingCount) {
            let arguments = cuda_all_reduce_arguments(
                peers: memory.peers, x: cuda_address(x.address) + cuda_address(4 * first),
                count: Int64(min(memory.stagingCount, x.elementCount - first)))
            unsafe backend.launch(cuda_all_reduce_launch, arguments, "sum")
        }
    }

    private func gather(_ own: UInt, into output: UInt, rows: Int, columns: Int, _ memory: PeerMemory) {
        let most = max(1, memory.stagingCount / columns)
        for first in stride(from: 0, to: rows, by: most) {
            let arguments = cuda_all_gather_arguments(
                peers: memory.peers, x: cuda_address(own) + cuda_address(4 * first * columns),
                output: cuda_address(output) + cuda_address(4 * first * columns * shard.count),
                rows: Int32(min(most, rows - first)), columns: Int32(columns))
            unsafe backend.launch(cuda_all_gather_launch, arguments, "gather")
        }
    }

    // MARK: One device

    /// Has rank 0 do `body` on its stream, after what all ranks asked for and before what they ask for next.
    /// - Parameter offer: this rank's address; `body` gets those of all.
    private func together(
        _ offer: UInt, _ name: String, arrived: borrowing Event, done: borrowing Event, _ body: ([UInt]) -> Void
    ) throws(BackendError) {
        try together(offer, 0, name, arrived: arrived, done: done) { addresses, _ in body(addresses) }
    }

    private func together(
        _ first: UInt, _ second: UInt, _ name: String, arrived: borrowing Event, done: borrowing Event,
        _ body: ([UInt], [UInt]) -> Void
    ) throws(BackendError) {
        try arrived.record(backend.stream)
        let offers = try meet([first, second, arrived.address], name)
        if shard.rank == 0 {
            for offer in offers.dropFirst() { try backend.stream.wait(forEventAt: offer[2]) }
            body(offers.map { $0[0] }, offers.map { $0[1] })
            try done.record(backend.stream)
        }
        let dones = try meet([done.address], name)
        if shard.rank != 0 { try backend.stream.wait(forEventAt: dones[0][0]) }
        // Whoever leaves takes its event along.
        _ = try meet([], name)
    }

    private func meet(_ offer: [UInt], _ name: String) throws(BackendError) -> [[UInt]] {
        defer { round += 1 }
        return try ranks.rendezvous.meet(shard, round: round, offer: offer, call: name)
    }

    /// Addresses as the kernels take them.
    static func tuple(_ addresses: [UInt]) -> RankAddresses {
        func address(_ rank: Int) -> cuda_address { rank < addresses.count ? cuda_address(addresses[rank]) : 0 }
        return (
            address(0), address(1), address(2), address(3), address(4), address(5), address(6), address(7)
        )
    }
}

/// [CUDA_MOST_RANKS]
typealias RankAddresses = (
    cuda_address, cuda_address, cuda_address, cuda_address, cuda_address, cuda_address, cuda_address, cuda_address
)

extension CUDABackend {
    /// Makes this backend a rank: from now on `collectives` are there. Returns when all ranks have come.
    package func join(_ ranks: CUDARanks, as shard: Shard) throws(BackendError) {
        precondition(shard.count == ranks.group.count && rank == nil)
        device.membership = Membership(ranks: ranks, shard: shard)
        rank = try CUDACollectives(ranks, shard, backend: self)
    }
}

/// Whose rank a device is.
struct Membership {
    let ranks: CUDARanks
    let shard: Shard
    var progress: RankProgress { ranks.progress[shard.rank] }
}
