// Probes and figures: /health (is the engine alive), /ready (send requests here), /version, /metrics. None of them
// waits for the engine.

import Execution
import Hummingbird
import NIOCore

extension Router {
    /// GET /health: 200 without a body unless the engine has failed or stalled.
    func health() throws(ServingError) -> Response {
        switch state.engine.health {
        case .ready, .draining: return Response(status: .ok)
        case .stalled(let reason): throw .notReady(reason)
        case .failed: throw .notReady("the engine has failed")
        }
    }

    /// GET /ready and /health/ready: 200 while new requests are accepted.
    func ready() throws(ServingError) -> Response {
        switch state.engine.health {
        case .ready: return Response(json: ByteBuffer(staticString: "{\"status\":\"ready\"}"))
        case .draining: throw .notReady("the server is shutting down")
        case .stalled(let reason): throw .notReady(reason)
        case .failed: throw .notReady("the engine has failed")
        }
    }

    /// GET /load: the requests being answered, for routers that send requests where there are fewest.
    func load() -> Response {
        var body = ByteBuffer()
        body.writeStaticString("{\"server_load\":")
        body.writeJSON(state.counters.inFlight)
        body.writeStaticString("}")
        return Response(json: body)
    }

    /// GET /version.
    func version() -> Response {
        var body = ByteBuffer()
        body.writeStaticString("{\"version\":")
        body.writeJSON(state.configuration.version)
        body.writeStaticString("}")
        return Response(json: body)
    }

    /// GET /metrics.
    func metrics() -> Response {
        var exposition = Metrics(
            modelName: state.configuration.servedModelNames.first ?? "", maxModelLength: state.model.maxModelLength)
        let statistics = state.engine.statistics
        exposition.write(statistics, model: state.model)
        if let limit = state.adapters.limit { exposition.write(statistics.adapters, limit: limit) }
        state.counters.write(to: &exposition)
        writeOwn(statistics, to: &exposition)
        process.write(to: &exposition)
        return Response(
            status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
            body: .init(byteBuffer: exposition.buffer))
    }

    /// What dashboards made for other servers do not look for.
    private func writeOwn(_ statistics: EngineStatistics, to metrics: inout Metrics) {
        let configuration = state.configuration
        let blocks = Double(state.model.blockCount)
        metrics.own("engine_steps_total", "counter", "Steps of the engine.", Double(statistics.steps))
        metrics.own("kv_blocks", "gauge", "KV blocks there are.", blocks)
        metrics.own("kv_blocks_used", "gauge", "KV blocks held by sequences.", (statistics.kvUsage * blocks).rounded())
        metrics.own(
            "prefix_cache_hit_ratio", "gauge", "Prompt tokens found in the prefix cache, of those looked up.",
            Double(statistics.prefixHits) / Double(max(1, statistics.prefixQueries)))
        metrics.own(
            "requests_waiting_limit", "gauge", "Requests that may wait.", Double(state.model.maxQueuedRequests))
        metrics.own(
            "queue_delay_seconds", "gauge", "Time until a prompt that comes now has its turn, as estimated.",
            statistics.queueDelay.seconds)
        metrics.own("http_connections", "gauge", "Open connections.", Double(state.openConnections.count))
        metrics.own(
            "http_connections_limit", "gauge", "Connections that may be open.", Double(configuration.maxConnections))
        metrics.own("api_keys", "gauge", "Keys of which a client must have one.", Double(configuration.keys.count))
        metrics.own("ready", "gauge", "1 while requests are accepted.", state.engine.health == .ready ? 1 : 0)
    }
}
