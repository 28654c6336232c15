// Why the engine refuses or ends a request, or does not start.

import Tensors

/// An error from the engine.
package enum EngineError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The waiting queue is full. `limit` and `waiting` are in requests or in prompt tokens, as `resource` says.
    case overloaded(resource: String, waiting: Int, limit: Int, retryAfter: Duration)
    /// One tenant holds its share of the waiting queue, and others are about. Counted as in `overloaded`.
    case overShare(resource: String, waiting: Int, limit: Int, retryAfter: Duration)
    /// Its prompt would have its turn later than the server lets anybody wait; nil is nobody knows when.
    case delayed(estimate: Duration?, limit: Duration, retryAfter: Duration)
    /// Its first token would come after its own deadline.
    case hopeless(estimate: Duration, remaining: Duration, retryAfter: Duration)
    /// The server is shutting down and takes no new requests.
    case draining
    /// The engine has work and completes no step, so nothing more is accepted for now.
    case stalled(String)
    /// The server shut down before this request finished.
    case shutdown
    /// The request cannot run here; found before it was queued.
    case rejected(String)
    /// All places for adapters are taken, by those that are loaded or by requests that began with one.
    case tooManyAdapters(limit: Int)
    /// The model produced logits that are not numbers for this request.
    case numericalError
    /// The device failed: every request ends and the process exits.
    case deviceFailure(String)
    /// A rank of the model failed or did not come, with the same consequences.
    case rankFailure(RankFailure)
    /// The configuration does not fit the model or the machine.
    case invalidConfiguration(String)

    package var description: String {
        switch self {
        case .overloaded(let resource, let waiting, let limit, _):
            // Clients look for vLLM's words.
            "The engine is currently busy: \(waiting) \(resource) are waiting, and the "
                + "\(resource == "requests" ? "limit" : "prefill token backlog limit") is \(limit). Try again later."
        case .overShare(let resource, let waiting, let limit, _):
            "You have \(waiting) \(resource) waiting, and your share of the queue is \(limit) now. Try again later."
        case .delayed(let estimate, let limit, _):
            "The engine is currently busy: this request would wait "
                + (estimate.map { "about \($0.tenths) s" } ?? "nobody knows how long")
                + " for its turn, and the limit is \(limit.tenths) s. Try again later."
        case .hopeless(let estimate, let remaining, _):
            "This request would wait about \(estimate.tenths) s for its first token, and its time ends in "
                + "\(remaining.tenths) s. Try again later or allow more time."
        case .draining: "The server is shutting down and accepts no new requests."
        case .stalled(let reason): "The server accepts no requests for now: \(reason). Try again later."
        case .shutdown: "The server shut down before this request finished."
        case .rejected(let reason): reason
        case .tooManyAdapters(let limit):
            "\(limit) adapters are loaded or still used by requests that run, and there is room for no more. "
                + "Unload one, or raise --max-loras."
        case .numericalError: "The model's output for this request was not a number. Try again."
        case .deviceFailure(let reason): "The engine stopped: \(reason)"
        case .rankFailure(let failure): "The engine stopped: \(failure)"
        case .invalidConfiguration(let reason): reason
        }
    }
}

extension Duration {
    /// Seconds to a tenth, for people.
    var tenths: String {
        let tenths = Int((seconds * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
