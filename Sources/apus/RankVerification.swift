// `apus verify --ranks N`: whether ranks on GPUs add and gather right. Where there is one GPU, they share it, and
// groups of one go through the library and the kernels that several devices would use; where there are N, they do too.

import CUDABackend
import Conformance
import Foundation
import Synchronization
import Tensors

/// The checks of groups of ranks that this machine can make.
struct RankVerification {
    let kernels: KernelImages
    let first: DeviceChoice
    let count: Int
    let isSmall: Bool
    /// Of the collective library; nil where the system looks for it.
    let library: String?

    /// A check by its name: the worst error, or why it cannot be made here.
    typealias Outcome = (name: String, result: Result<Double, BackendError>)

    func outcomes() throws -> [Outcome] {
        var outcomes = [
            try outcome("\(count) ranks that share the device", count, isOneDevice: true) { .oneDevice },
            try outcome("a group of one through NCCL", 1) { () throws(BackendError) in try nccl(1) },
            try outcome("a group of one through the device's own kernels", 1) { .peers },
        ]
        let driver = try Driver()
        do throws(BackendError) {
            _ = try Device.look(.ordinal(count - 1), driver: driver)
        } catch {
            return outcomes
        }
        guard count > 1 else { return outcomes }
        outcomes.append(
            try outcome("\(count) devices through NCCL", count) { () throws(BackendError) in try nccl(count) })
        if try CUDARanks.reachOneAnother((0..<count).map { .ordinal($0) }, driver: driver) {
            outcomes.append(try outcome("\(count) devices that read each other's memory", count) { .peers })
        }
        return outcomes
    }

    private func nccl(_ count: Int) throws(BackendError) -> RankExchange {
        .nccl(try NCCL(library: library, rankCount: count))
    }

    /// A check of one group, unless its exchange cannot be had.
    private func outcome(
        _ name: String, _ count: Int, isOneDevice: Bool = false,
        _ exchange: () throws(BackendError) -> RankExchange
    ) throws -> Outcome {
        let ranks: CUDARanks
        do throws(BackendError) {
            ranks = try CUDARanks(RankGroup(count: count, deadline: .seconds(30)), exchange: exchange())
        } catch {
            return (name, .failure(error))
        }
        let worst = try Self.onThreads(count) { [kernels, first, isSmall] rank in
            var options = CUDABackend.Options()
            options.device = isOneDevice || count == 1 ? first : .ordinal(rank)
            options.usesGraphs = !isOneDevice
            let backend = try CUDABackend(options, driver: Driver(), kernels: kernels)
            try backend.join(ranks, as: Shard(rank: rank, of: count))
            return try CollectiveCheck.worstError(backend, isSmall: isSmall)
        }
        return (name, .success(worst.max() ?? .infinity))
    }

    /// Does `body` for every rank on a thread of its own; throws what the first rank that failed has thrown.
    private static func onThreads(
        _ count: Int, _ body: @escaping @Sendable (Int) throws -> Double
    ) throws -> [Double] {
        let results = RankResults()
        let ends = DispatchSemaphore(value: 0)
        for rank in 0..<count {
            Thread.detachNewThread {
                results.set(rank, Result { try body(rank) })
                ends.signal()
            }
        }
        for _ in 0..<count { ends.wait() }
        return try results.inOrder.map { try $0.get() }
    }
}

/// What the ranks' threads leave behind.
private final class RankResults: Sendable {
    private let results = Mutex<[Int: Result<Double, any Error>]>([:])

    func set(_ rank: Int, _ result: Result<Double, any Error>) { results.withLock { $0[rank] = result } }
    var inOrder: [Result<Double, any Error>] {
        results.withLock { all in all.keys.sorted().compactMap { all[$0] } }
    }
}
