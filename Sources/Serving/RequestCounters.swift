// Figures that the HTTP side knows and the engine does not. Labels come from fixed sets, so that no client can make
// series.

import Execution
import HTTPTypes
import Synchronization

/// Counts requests of one server.
final class RequestCounters: Sendable {
    private struct Key: Hashable {
        let route: String
        let method: String
        let statusClass: Int
    }

    private struct State {
        var requests: [Key: Int] = [:]
        var choices = Histogram(bounds: [1, 2, 5, 10, 20])
        var maxTokens = Histogram(bounds: [
            1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000,
        ])
    }

    private let state = Mutex(State())

    init() {
        state.withLock { state in
            for route in [Route.completions, .chat] {
                state.requests[Key(route: route.label, method: "POST", statusClass: 2)] = 0
            }
        }
    }

    /// Counts a response; for a stream, when it begins.
    func count(_ route: Route?, method: HTTPRequest.Method, status: Int) {
        if let route, !route.isCounted { return }
        let name = [.get, .head, .post].contains(method) ? method.rawValue : "other"
        let key = Key(route: route?.label ?? "none", method: name, statusClass: status / 100)
        state.withLock { $0.requests[key, default: 0] += 1 }
    }

    /// Counts what an accepted request asks for.
    func observe(_ request: SessionRequest) {
        state.withLock { state in
            state.choices.observe(Double(request.sampling.n))
            if let maxTokens = request.sampling.maxTokens { state.maxTokens.observe(Double(maxTokens)) }
        }
    }

    /// Writes what was counted.
    func write(to metrics: inout Metrics) {
        let state = state.withLock { $0 }
        metrics.write(state.choices, name: "request_params_n", help: "Choices asked for.")
        metrics.write(state.maxTokens, name: "request_params_max_tokens", help: "max_tokens asked for.")
        metrics.family("http_requests_total", "counter", "Requests by handler, method and status.")
        let lines = state.requests.map { key, count in
            ("handler=\"\(key.route)\",method=\"\(key.method)\",status=\"\(key.statusClass)xx\"", count)
        }
        for (labels, count) in lines.sorted(by: { $0.0 < $1.0 }) {
            metrics.sample("http_requests_total", labels, Double(count))
        }
    }
}
