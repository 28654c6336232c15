// What serving needs of an engine, so that tests can serve from one without a model. `Engine` is the only other.

import Execution
import Scheduling

/// Generates tokens for requests that it admits.
package protocol TextEngine: Sendable {
    /// A request id that was never used before.
    func makeRequestID() -> RequestID
    /// Monotonic time since the engine started.
    var now: Duration { get }
    /// Takes places in the waiting queue before a request costs anything.
    func reserve(requests: Int, promptTokenEstimate: Int) throws(EngineError) -> Reservation
    /// The same for requests of one tenant and priority, which may be refused although there are places, or because
    /// their time would be over before their turn.
    func reserve(
        requests: Int, promptTokenEstimate: Int, tenant: UInt64, priority: Int, deadline: Duration?
    ) throws(EngineError) -> Reservation
    /// Hands requests over whose events go to `receiver` by way of `queue`.
    func submit(
        _ requests: [GenerationRequest], reservation: consuming Reservation, to receiver: any EventReceiver,
        by queue: EventQueue
    ) throws(EngineError)
    /// Ends a request wherever it is.
    func abort(_ id: RequestID)
    /// Ends a request whose consumer has all it wants; it counts as stopped.
    func stop(_ id: RequestID)
    /// A snapshot of gauges, counters and histograms.
    var statistics: EngineStatistics { get }
    /// Whether it serves.
    var health: EngineHealth { get }
    /// Begins to record steps, `limit` of them at most; false where that is done already.
    func beginTrace(limit: Int) -> Bool
    /// What was recorded since; nil where nothing was begun.
    func endTrace() -> StepTrace?
    /// Accepts nothing more and returns when everything accepted has ended, `timeout` at the latest.
    func drain(timeout: Duration) async
}

extension TextEngine {
    /// An engine that has no steps.
    package func beginTrace(limit: Int) -> Bool { false }
    package func endTrace() -> StepTrace? { nil }

    /// An engine that does not tell tenants apart, nor knows how long anything takes.
    package func reserve(
        requests: Int, promptTokenEstimate: Int, tenant: UInt64, priority: Int, deadline: Duration?
    ) throws(EngineError) -> Reservation {
        try reserve(requests: requests, promptTokenEstimate: promptTokenEstimate)
    }
}
