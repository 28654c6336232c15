// Hundreds of requests that come, read slowly, go away and run into a full queue; afterwards it is as if nobody had
// been there.

import Execution
import Foundation
import Scheduling
import TestSupport
import Testing

@Suite(.serialized) struct ChaosTests {
    private enum Ending { case finished, aborted, refused }

    /// Open file descriptors of this process.
    private static func descriptors() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
    }

    /// What one client does, as its number says.
    private static func run(_ client: Int, _ engine: Engine) async throws -> Ending {
        try await Task.sleep(for: .milliseconds(client * 6151 % 2500))
        let prompt = (0..<(1 + client * 37 % 160)).map { TokenID(1000 + $0 + client % 5 * 300) }
        let request = GenerationRequest(
            id: engine.makeRequestID(), prompt: prompt, maxNewTokens: 1 + client % 24, priority: client % 3,
            arrival: engine.now, deadline: client % 29 == 7 ? engine.now + .milliseconds(200) : nil,
            tenant: UInt64(client % 4))
        let stream: AsyncStream<EngineEvent>
        do throws(EngineError) {
            let reservation = try engine.reserve(
                requests: 1, promptTokenEstimate: client % 300, tenant: request.tenant)
            // Some give up while they would be tokenizing.
            if client % 41 == 0 { return .aborted }
            stream = try engine.submit([request], reservation: reservation)[0]
        } catch {
            switch error {
            case .overloaded, .overShare: return .refused
            // Its time would have been over.
            case .hopeless: return .aborted
            default: throw error
            }
        }
        guard client % 5 == 0 else {
            let isSlow = client % 11 == 0
            for await event in stream {
                if isSlow { try await Task.sleep(for: .milliseconds(20)) }
                if case .failed(.hopeless) = event { return .aborted }
                if case .failed(let error) = event { throw error }
            }
            return .finished
        }
        let reader = Task { for await _ in stream {} }
        try await Task.sleep(for: .milliseconds(client * 7919 % 700))
        if client % 2 == 0 { reader.cancel() } else { engine.abort(request.id) }
        await reader.value
        return .aborted
    }

    @Test(arguments: [false, true])
    func `400 clients, one in five of which goes away, leave nothing behind`(isDeferred: Bool) async throws {
        // The first timer and the first engine open what the process keeps.
        try await Task.sleep(for: .milliseconds(1))
        await (try RealModel.engine(BackendOptions())).drain(timeout: .seconds(5))
        let before = try Self.descriptors()
        let engine = try await RealModel.engine(BackendOptions(deferral: isDeferred ? Deferral() : nil)) {
            $0.maxSequences = 12
            $0.maxQueuedRequests = 96
            $0.blockCountOverride = 128
            $0.policy = .fair
        }
        var counts: [Ending: Int] = [:]
        try await withThrowingTaskGroup(of: Ending.self) { group in
            for client in 0..<400 { group.addTask { try await Self.run(client, engine) } }
            for try await ending in group { counts[ending, default: 0] += 1 }
        }
        let deadline = ContinuousClock.now + .seconds(5)
        while engine.statistics.running + engine.statistics.waiting > 0, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(2))
        }
        let statistics = engine.statistics
        print(
            "\(counts[.finished] ?? 0) finished, \(counts[.aborted] ?? 0) went away, \(counts[.refused] ?? 0) refused, "
                + "\(statistics.preemptions) preemptions, \(statistics.prefixHits) tokens from the cache")
        // On a slow machine most are refused.
        #expect(counts[.finished, default: 0] > 20 && counts[.aborted, default: 0] >= 8)
        let rejections = statistics.rejections
        #expect(rejections.queueFull + rejections.tenantShare == counts[.refused, default: 0])
        #expect(statistics.running == 0 && statistics.waiting == 0 && statistics.kvUsage == 0)
        // The ledger is empty: the queue takes as much as when it was new.
        let everything = try engine.reserve(requests: 96, promptTokenEstimate: 1 << 20)
        _ = consume everything
        #expect(engine.health == .ready)
        await engine.drain(timeout: .seconds(5))
        #expect(try Self.descriptors() <= before)
    }
}
