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

    /// What is measured of the requests of one handler.
    private struct Measures {
        var duration = Histogram(bounds: [
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
        ])
        var requestBytes = (count: 0, sum: 0)
    }

    private struct State {
        var requests: [Key: Int] = [:]
        var measures: [String: Measures] = [:]
        var choices = Histogram(bounds: [1, 2, 5, 10, 20])
        var maxTokens = Histogram(bounds: Histogram.tokenBounds)
        var mostGenerated = Histogram(bounds: Histogram.tokenBounds)
    }

    private let state = Mutex(State())
    private let answering = Atomic(0)

    /// Requests that the engine works for and whose answer is not complete.
    var inFlight: Int { answering.load(ordering: .relaxed) }

    /// Notes that the engine has taken a request, whatever its number of choices or texts.
    func begin() { answering.add(1, ordering: .relaxed) }

    /// Notes that it has ended, however.
    func end() { answering.subtract(1, ordering: .relaxed) }

    init() {
        state.withLock { state in
            for route in [Route.completions, .chat] {
                for statusClass in [2, 4, 5] {
                    state.requests[Key(route: route.label, method: "POST", statusClass: statusClass)] = 0
                }
                state.measures[route.label] = Measures()
            }
        }
    }

    /// Counts a response; for a stream, when it begins.
    func count(_ route: Route?, method: HTTPRequest.Method, status: Int, duration: Duration, bytes: Int) {
        if let route, !route.isCounted { return }
        let name = [.get, .head, .post].contains(method) ? method.rawValue : "other"
        let key = Key(route: route?.label ?? "none", method: name, statusClass: status / 100)
        state.withLock { state in
            state.requests[key, default: 0] += 1
            state.measures[key.route, default: Measures()].duration.observe(duration)
            state.measures[key.route]?.requestBytes.count += 1
            state.measures[key.route]?.requestBytes.sum += bytes
        }
    }

    /// Counts what an accepted request asks for.
    func observe(_ request: SessionRequest) {
        state.withLock { state in
            state.choices.observe(Double(request.sampling.n))
            if let maxTokens = request.sampling.maxTokens { state.maxTokens.observe(Double(maxTokens)) }
        }
    }

    /// Counts the tokens of choices that ended, those of a prompt one after another.
    func observe(generated: [Int], choicesPerPrompt: Int) {
        guard generated.contains(where: { $0 > 0 }) else { return }
        state.withLock { state in
            for start in stride(from: 0, to: generated.count, by: max(1, choicesPerPrompt)) {
                let most = generated[start..<min(generated.count, start + choicesPerPrompt)].max() ?? 0
                state.mostGenerated.observe(Double(most))
            }
        }
    }

    /// Writes what was counted.
    func write(to metrics: inout Metrics) {
        let state = state.withLock { $0 }
        metrics.write(state.choices, name: "request_params_n", help: "Choices asked for.")
        metrics.write(state.maxTokens, name: "request_params_max_tokens", help: "max_tokens asked for.")
        metrics.write(
            state.mostGenerated, name: "request_max_num_generation_tokens", help: "Tokens of a prompt's longest choice."
        )
        metrics.family("http_requests_total", "counter", "Requests by handler, method and status.")
        let lines = state.requests.map { key, count in
            ("handler=\"\(key.route)\",method=\"\(key.method)\",status=\"\(key.statusClass)xx\"", count)
        }
        for (labels, count) in lines.sorted(by: { $0.0 < $1.0 }) {
            metrics.sample("http_requests_total", labels, Double(count))
        }
        let measures = state.measures.sorted { $0.key < $1.key }
        let duration = "http_request_duration_seconds"
        metrics.family(duration, "histogram", "Time to the whole response; to its first byte where it is a stream.")
        for (handler, measured) in measures {
            metrics.samples(measured.duration, duration, "handler=\"\(handler)\"")
        }
        metrics.family("http_request_size_bytes", "summary", "Declared sizes of request bodies.")
        for (handler, measured) in measures {
            let labels = "handler=\"\(handler)\""
            metrics.sample("http_request_size_bytes_sum", labels, Double(measured.requestBytes.sum))
            metrics.sample("http_request_size_bytes_count", labels, Double(measured.requestBytes.count))
        }
    }
}
