// The events of all choices of an answer, in the order they come.

import Execution

/// Events with the index of their choice. One choice, as most answers have, is read without another task in between.
struct ChoiceEvents: AsyncSequence {
    typealias Element = (choice: Int, event: EngineEvent)

    private let streams: [AsyncStream<EngineEvent>]

    init(_ streams: [AsyncStream<EngineEvent>]) { self.streams = streams }

    enum Iterator: AsyncIteratorProtocol {
        case single(AsyncStream<EngineEvent>.Iterator)
        case merged(AsyncStream<Element>.Iterator)

        mutating func next() async -> Element? {
            switch self {
            case .single(var iterator):
                let event = await iterator.next()
                self = .single(iterator)
                return event.map { (0, $0) }
            case .merged(var iterator):
                let element = await iterator.next()
                self = .merged(iterator)
                return element
            }
        }
    }

    func makeAsyncIterator() -> Iterator {
        if streams.count == 1 { return .single(streams[0].makeAsyncIterator()) }
        let (merged, continuation) = AsyncStream.makeStream(of: Element.self)
        let forwarding = Task { [streams] in
            await withTaskGroup { group in
                for (index, stream) in streams.enumerated() {
                    group.addTask {
                        for await event in stream { continuation.yield((index, event)) }
                    }
                }
            }
            continuation.finish()
        }
        // Whoever stops reading stops the streams, and with them the requests.
        continuation.onTermination = { _ in forwarding.cancel() }
        return .merged(merged.makeAsyncIterator())
    }
}
