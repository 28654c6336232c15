// Events of many requests on their way to one reader. The engine thread adds all events of a step and then wakes the
// reader once; what a step costs the other threads does not grow with the number of streams.

import Scheduling
import Synchronization

/// Takes the events of one or more requests. Called by whoever delivers the queue, one call at a time.
package protocol EventReceiver: AnyObject, Sendable {
    /// Takes an event of the request that was submitted at `index`.
    func receive(_ event: EngineEvent, index: Int)
    /// Called after the receiver's events of a delivery, at least once.
    func finishDelivery()
}

/// A queue with few writers and one reader, who is called when there is something to deliver.
package final class EventQueue: Sendable {
    private struct Delivery {
        let receiver: any EventReceiver
        let index: Int
        let event: EngineEvent
    }

    private struct State {
        var deliveries: [Delivery] = []
        /// Storage for the deliveries to come while the reader looks at these.
        var spare: [Delivery] = []
    }

    private let state = Mutex(State())
    private let wake: @Sendable (EventQueue) -> Void

    /// - Parameter wake: has `deliver` called soon; called from the engine thread, so it must not wait.
    package init(wake: @escaping @Sendable (EventQueue) -> Void) { self.wake = wake }

    /// Adds an event; true where the reader has to be woken for it.
    func append(_ event: EngineEvent, to receiver: any EventReceiver, index: Int) -> Bool {
        state.withLock { state in
            state.deliveries.append(Delivery(receiver: receiver, index: index, event: event))
            return state.deliveries.count == 1
        }
    }

    /// Wakes the reader.
    func notify() { wake(self) }

    /// Hands everything that was added to its receivers, in order.
    package func deliver() {
        var deliveries = state.withLock { state in
            let taken = state.deliveries
            state.deliveries = state.spare
            state.spare = []
            return taken
        }
        for delivery in deliveries { delivery.receiver.receive(delivery.event, index: delivery.index) }
        for delivery in deliveries { delivery.receiver.finishDelivery() }
        deliveries.removeAll(keepingCapacity: true)
        state.withLock { $0.spare = deliveries }
    }
}

/// Where the events of one request go.
package enum EventDestination: Sendable {
    case stream(AsyncStream<EngineEvent>.Continuation)
    /// - Parameter index: the request's place among those that were submitted together.
    case queue(EventQueue, any EventReceiver, index: Int)

    /// Sends one event at once.
    package func send(_ event: EngineEvent) {
        if let queue = post(event) { queue.notify() }
    }

    /// Sends an event; returns the queue whose reader has to be woken.
    func post(_ event: EngineEvent) -> EventQueue? {
        switch self {
        case .stream(let continuation):
            continuation.yield(event)
            if event.isLast { continuation.finish() }
            return nil
        case .queue(let queue, let receiver, let index):
            return queue.append(event, to: receiver, index: index) ? queue : nil
        }
    }
}

extension EngineEvent {
    /// Whether nothing follows.
    fileprivate var isLast: Bool {
        switch self {
        case .token, .promptScores, .pooled: false
        case .finished, .failed: true
        }
    }
}
