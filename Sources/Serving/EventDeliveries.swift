// The engine's events on their way to the event loops: one queue for each loop, which is woken once for all streams
// that a step had tokens for.

import Execution
import NIOCore

/// The queues of the server's event loops.
struct EventDeliveries: Sendable {
    private let queues: [ObjectIdentifier: EventQueue]

    init(_ loops: any EventLoopGroup) {
        var queues: [ObjectIdentifier: EventQueue] = [:]
        for loop in loops.makeIterator() { queues[ObjectIdentifier(loop)] = Self.queue(on: loop) }
        self.queues = queues
    }

    /// The queue that is delivered on `loop`.
    func queue(for loop: any EventLoop) -> EventQueue { queues[ObjectIdentifier(loop)] ?? Self.queue(on: loop) }

    private static func queue(on loop: any EventLoop) -> EventQueue {
        EventQueue { queue in loop.execute { queue.deliver() } }
    }
}
