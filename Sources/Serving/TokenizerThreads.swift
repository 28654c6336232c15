// Threads of their own for what takes long and never waits: parsing large bodies, rendering templates, tokenizing.
// A megabyte of text takes milliseconds, and on the cooperative pool those would be milliseconds without streaming.

import Execution
import NIOPosix
import Synchronization

/// A small pool of threads.
final class TokenizerThreads: Sendable {
    private let pool: NIOThreadPool
    private let calls = Mutex(0)
    private let maxCalls: Int

    /// - Parameter maxCalls: how many calls of `runUnqueued` may wait or run.
    init(threadCount: Int, maxCalls: Int) {
        pool = NIOThreadPool(numberOfThreads: max(1, threadCount))
        pool.start()
        self.maxCalls = maxCalls
    }

    /// Ends the threads; calls after this throw.
    func shutdown() async throws { try await pool.shutdownGracefully() }

    /// Runs `body` on one of the threads. For callers that hold a place in a bounded queue.
    func run<Value: Sendable>(
        _ body: @escaping @Sendable () throws(ServingError) -> Value
    ) async throws(ServingError) -> Value {
        let result: Result<Value, ServingError>
        do {
            result = try await pool.runIfActive {
                do throws(ServingError) { return .success(try body()) } catch { return .failure(error) }
            }
        } catch {
            // The pool has been shut down, or the task was cancelled: either way the server is going.
            throw .engine(.draining)
        }
        return try result.get()
    }

    /// Runs `body` on one of the threads, unless too many wait already.
    func runUnqueued<Value: Sendable>(
        _ body: @escaping @Sendable () throws(ServingError) -> Value
    ) async throws(ServingError) -> Value {
        let isAdmitted = calls.withLock { calls in
            guard calls < maxCalls else { return false }
            calls += 1
            return true
        }
        guard isAdmitted else { throw .tokenizerBusy(limit: maxCalls) }
        defer { calls.withLock { $0 -= 1 } }
        return try await run(body)
    }
}
