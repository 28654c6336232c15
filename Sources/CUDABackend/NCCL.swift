// NVIDIA's collective library, opened when several devices share a model, and a rank's place in one of its groups.
//
// Nothing blocks in the library: starts and calls go on in the background and are asked after, so that a rank which
// never comes is given up after a deadline instead of never.

import CUDADriver
import Foundation
import Synchronization
import Tensors

/// The functions of the library, or those of the tests' stub.
///
/// Safe to hold: a table of functions that never changes. Calling one is what needs care.
@safe
// The functions of a library that stays open; any thread may call them.
package final class NCCL: @unchecked Sendable {
    let calls: nccl_calls

    /// Opens the library.
    /// - Parameters:
    ///   - library: its path; nil is `libnccl.so.2`, then `libnccl.so`, where the system looks for libraries.
    ///   - rankCount: what it is needed for, for the message.
    /// - Throws: `BackendError.unsupported` when there is none, or one too old.
    package init(library: String? = nil, rankCount: Int) throws(BackendError) {
        var calls = nccl_calls()
        var version: Int32 = 0
        var reason = [CChar](repeating: 0, count: 512)
        let result =
            library.map { unsafe nccl_open($0, &calls, &version, &reason, reason.count) }
            ?? (unsafe nccl_open(nil, &calls, &version, &reason, reason.count))
        guard result == 0 else {
            let text = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw .unsupported(
                operation: "--tensor-parallel-size \(rankCount)",
                reason: "it needs NCCL 2.\(NCCL_OLDEST_VERSION / 100 % 100) or later (\(text))")
        }
        self.calls = calls
    }

    /// Uses the functions of `calls`, all of which must be set.
    package init(_ calls: nccl_calls) { self.calls = calls }

    /// Such as 2.27.7.
    var version: String {
        var version: Int32 = 0
        guard unsafe calls.version(&version) == NCCL_SUCCESS else { return "" }
        return "\(version / 10_000).\(version / 100 % 100).\(version % 100)"
    }

    /// 128 bytes that make a group.
    func makeIdentity() throws(BackendError) -> nccl_identity {
        var identity = nccl_identity()
        let result = unsafe calls.make_identity(&identity)
        guard result == NCCL_SUCCESS else {
            throw unsafe .unsupported(
                operation: "a group of ranks", reason: "NCCL made no identity (\(describe(result)))")
        }
        return identity
    }

    /// What a result means, and what the library says of the last error.
    func describe(_ result: nccl_result, _ communicator: nccl_communicator? = nil) -> String {
        let text = unsafe calls.error_string(result).map { unsafe String(cString: $0) } ?? "error \(result)"
        guard let last = unsafe calls.last_error(communicator), unsafe last.pointee != 0 else { return text }
        return unsafe "\(text): \(String(cString: last))"
    }
}

/// One rank's place in a group of the library. Lives as long as the rank; ended by whichever thread ends the group.
@safe
final class Communicator: Sendable {
    @safe
    private struct State {
        var handle: nccl_communicator?
        var isAborted = false
    }

    private let nccl: NCCL
    let shard: Shard
    private let group: RankGroup
    private let state: Mutex<State>

    /// Takes part in the start of the group, on the device whose context is current; returns when all ranks have.
    init(_ nccl: NCCL, identity: nccl_identity, shard: Shard, group: RankGroup) throws(BackendError) {
        self.nccl = nccl
        self.shard = shard
        self.group = group
        state = unsafe Mutex(State(handle: nil))
        group.whenEnded { [weak self] _ in self?.abort() }
        try call("the start of the group") { (state: inout State) in
            unsafe withUnsafePointer(to: identity) { identity in
                unsafe withUnsafePointer(to: nccl.calls) { calls in
                    unsafe nccl_start_rank(calls, &state.handle, Int32(shard.count), identity, Int32(shard.rank))
                }
            }
        }
    }

    /// x ← Σ x, in the order of `stream`: an order of additions of the library's choice.
    func sum(_ address: UInt, count: Int, stream: cuda_handle?, call name: String) throws(BackendError) {
        try call(name) { state in
            let x = unsafe UnsafeMutableRawPointer(bitPattern: address)
            return unsafe self.nccl.calls.all_reduce(
                x, x, count, Int32(NCCL_FLOAT32), Int32(NCCL_SUM), state.handle, stream)
        }
    }

    /// Fills `parts`, `count` elements for each rank, of which this one's are there.
    func gather(_ parts: UInt, count: Int, stream: cuda_handle?, call name: String) throws(BackendError) {
        try call(name) { state in
            let own = unsafe UnsafeRawPointer(bitPattern: parts + UInt(4 * count * self.shard.rank))
            let all = unsafe UnsafeMutableRawPointer(bitPattern: parts)
            return unsafe self.nccl.calls.all_gather(own, all, count, Int32(NCCL_FLOAT32), state.handle, stream)
        }
    }

    /// What the library found out meanwhile, in a clause; nil while all is well.
    func asynchronousError() -> String? {
        state.withLock { state in
            guard !state.isAborted, let handle = unsafe state.handle else { return nil }
            var found: nccl_result = 0
            let result = unsafe nccl.calls.asynchronous_error(handle, &found)
            let worst = result == NCCL_SUCCESS ? found : result
            guard worst != NCCL_SUCCESS, worst != NCCL_IN_PROGRESS else { return nil }
            return unsafe "met an error of NCCL (\(nccl.describe(worst, handle)))"
        }
    }

    /// Ends what is under way on the device, and this rank's place in the group. From any thread.
    func abort() {
        state.withLock { state in
            guard !state.isAborted else { return }
            state.isAborted = true
            if let handle = unsafe state.handle { _ = unsafe nccl.calls.abort(handle) }
        }
    }

    /// Does `body` under the lock, and waits until the library has done what it was asked for.
    private func call(
        _ name: String, _ body: (inout State) -> nccl_result
    ) throws(BackendError) {
        let start = ContinuousClock.now
        var result: nccl_result = state.withLock { state in
            state.isAborted ? nccl_result(NCCL_SUCCESS) : body(&state)
        }
        while result == NCCL_IN_PROGRESS, group.failure == nil {
            let elapsed = start.duration(to: .now)
            if elapsed > group.deadline {
                group.end(
                    RankFailure(shard, call: name, elapsed: elapsed, reason: "found that not all ranks had come"))
            }
            Thread.sleep(forTimeInterval: 50e-6)
            result = state.withLock { state in
                guard !state.isAborted else { return nccl_result(NCCL_SUCCESS) }
                var found: nccl_result = 0
                let asked = unsafe nccl.calls.asynchronous_error(state.handle, &found)
                return asked == NCCL_SUCCESS ? found : asked
            }
        }
        if result != NCCL_SUCCESS, result != NCCL_IN_PROGRESS {
            let text = state.withLock { unsafe nccl.describe(result, $0.isAborted ? nil : $0.handle) }
            group.end(
                RankFailure(
                    shard, call: name, elapsed: start.duration(to: .now), reason: "met an error of NCCL (\(text))"))
        }
        if let failure = group.failure { throw .rankFailure(failure) }
    }

    /// Leaves a group that has not ended, where the others leave too.
    deinit {
        state.withLock { state in
            guard !state.isAborted, let handle = unsafe state.handle else { return }
            state.isAborted = true
            var result = unsafe nccl.calls.finish(handle)
            let start = ContinuousClock.now
            while result == NCCL_IN_PROGRESS, start.duration(to: .now) < min(group.deadline, .seconds(5)) {
                Thread.sleep(forTimeInterval: 50e-6)
                var found: nccl_result = 0
                let asked = unsafe nccl.calls.asynchronous_error(handle, &found)
                result = asked == NCCL_SUCCESS ? found : asked
            }
            _ = unsafe result == NCCL_SUCCESS ? nccl.calls.destroy(handle) : nccl.calls.abort(handle)
        }
    }
}
