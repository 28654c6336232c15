// The times that one connection is given, and the count of open ones.

import NIOCore
import Synchronization

/// Time limits of one connection.
struct ConnectionLimits: Sendable {
    let requestHead: Duration
    let requestBody: Duration
    let writeStall: TimeAmount
    /// nil: no comments on silent streams.
    let heartbeat: TimeAmount?
    let idle: Duration
    /// How long to read on after the last response, so that the client receives it before the connection is reset.
    let linger = TimeAmount.seconds(1)

    init(_ configuration: ServingConfiguration) {
        requestHead = configuration.requestHeadTimeout
        requestBody = configuration.requestReadTimeout
        writeStall = TimeAmount(configuration.writeStallTimeout)
        heartbeat = configuration.heartbeatInterval > .zero ? TimeAmount(configuration.heartbeatInterval) : nil
        idle = configuration.keepAliveTimeout
    }
}

/// How many connections are open.
final class ConnectionGauge: Sendable {
    private let value = Atomic(0)

    /// Connections open now.
    var count: Int { value.load(ordering: .relaxed) }

    func opened() { value.add(1, ordering: .relaxed) }
    func closed() { value.subtract(1, ordering: .relaxed) }
}
