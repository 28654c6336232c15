// Ranks as the server has them: a thread and a backend each, on one emulated device.

import CUDABackend
import CUDADriver
import CUDAEmulator
import Foundation
import NCCLStub
import Synchronization
import Tensors

/// What the emulator can be a group of.
enum EmulatedExchange: String, CaseIterable, Sendable {
    case oneDevice
    case nccl

    /// Forgets the groups before.
    func prepare() throws -> RankExchange {
        unsafe nccl_stub_reset { stream, function, context in
            unsafe cuda_emulator_enqueue(stream, function, context)
        }
        switch self {
        case .oneDevice: return .oneDevice
        case .nccl: return .nccl(try NCCL.stub())
        }
    }
}

extension NCCL {
    /// The library that is linked into the tests.
    static func stub() throws -> NCCL {
        guard let calls = unsafe nccl_stub_calls() else { throw BackendError.unsupported(operation: "", reason: "") }
        return unsafe NCCL(calls.pointee)
    }
}

/// Does `body` for every rank on a thread of its own, and waits for all.
func onRanks<Value: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (Shard) throws -> Value
) -> [Result<Value, any Error>] {
    let results = RankResults<Value>()
    let ends = DispatchSemaphore(value: 0)
    for rank in 0..<count {
        Thread.detachNewThread {
            let shard = Shard(rank: rank, of: count)
            results.set(rank, Result { try body(shard) })
            ends.signal()
        }
    }
    for _ in 0..<count { ends.wait() }
    return results.inOrder
}

/// What the ranks' threads leave behind.
private final class RankResults<Value: Sendable>: Sendable {
    private let results = Mutex<[Int: Result<Value, any Error>]>([:])

    func set(_ rank: Int, _ result: Result<Value, any Error>) { results.withLock { $0[rank] = result } }
    var inOrder: [Result<Value, any Error>] { results.withLock { all in all.keys.sorted().compactMap { all[$0] } } }
}

extension EmulatedDevice {
    /// A backend that is a rank.
    static func backend(
        _ ranks: CUDARanks, _ shard: Shard, usesGraphs: Bool = false
    ) throws -> CUDABackend {
        let backend = try backend { $0.usesGraphs = usesGraphs }
        try backend.join(ranks, as: shard)
        return backend
    }
}
