// What a client is told when the engine has no room for it, or no time.

import Execution
import Testing

@Suite struct RefusalTests {
    @Test(arguments: [
        (EngineError.delayed(estimate: .seconds(9), limit: .seconds(2), retryAfter: .seconds(7)), "9.0 s"),
        (.hopeless(estimate: .seconds(9), remaining: .seconds(2), retryAfter: .seconds(7)), "time ends in 2.0 s"),
    ])
    func `a request that would come too late is refused with 503 and when to come back`(
        error: EngineError, words: String
    ) async throws {
        let engine = FakeEngine { _ in .init([], failure: error) }
        try await withServer(engine) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"x"}"#)
            #expect(answer.status == 503)
            #expect(answer.headers["retry-after"] == "7")
            #expect(answer.body.contains(words) && answer.body.contains("ServiceUnavailableError"))
        }
    }

    @Test func `a key over its share is refused with 429, and the metrics tell all reasons apart`() async throws {
        let engine = FakeEngine { _ in
            .init([], failure: .overShare(resource: "requests", waiting: 6, limit: 5, retryAfter: .seconds(3)))
        }
        try await withServer(engine) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"x"}"#)
            #expect(answer.status == 429)
            #expect(answer.headers["retry-after"] == "3")
            for reason in ["queue_full", "tenant_share", "ttft_slo", "deadline"] {
                let count = try await server.metric("vllm:admission_rejections_total", "reason=\"\(reason)\"")
                #expect(count == 0, "\(reason)")
            }
        }
    }
}
