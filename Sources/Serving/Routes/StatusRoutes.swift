// Probes and figures: /health (is the engine alive), /ready (send requests here), /version, /metrics. None of them
// waits for the engine.

import Execution
import Hummingbird
import NIOCore

extension Router {
    /// GET /health: 200 without a body unless the engine has failed.
    func health() throws(ServingError) -> Response {
        if case .failed = state.engine.health { throw .notReady("the engine has failed") }
        return Response(status: .ok)
    }

    /// GET /ready and /health/ready: 200 while new requests are accepted.
    func ready() throws(ServingError) -> Response {
        switch state.engine.health {
        case .ready: return Response(json: ByteBuffer(staticString: "{\"status\":\"ready\"}"))
        case .draining: throw .notReady("the server is shutting down")
        case .failed: throw .notReady("the engine has failed")
        }
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
        var exposition = Metrics(modelName: state.configuration.servedModelNames.first ?? "")
        exposition.write(state.engine.statistics, model: state.model)
        state.counters.write(to: &exposition)
        return Response(
            status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
            body: .init(byteBuffer: exposition.buffer))
    }
}
