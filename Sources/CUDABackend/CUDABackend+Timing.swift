// How long operations take on the device, between two events: the host's part is not in it.

import Tensors

extension CUDABackend {
    /// The time of each of `rounds` rounds of what `body` asks for. A round is one step: its attention is planned once.
    /// - Parameter isCaptured: whether a round is captured once and replayed, so that launching does not slow down
    ///   what is shorter than a launch. `body` must then neither sample nor upload.
    package func time(rounds: Int, isCaptured: Bool, _ body: () -> Void) throws(BackendError) -> [Duration] {
        // Whatever is allocated or configured on first use is done before the clock runs.
        inStep(body)
        try synchronize()
        let captured: Graph.Owner? =
            if isCaptured {
                Graph.Owner(try Graph(capturing: stream, device: device) { inStep(body) })
            } else {
                nil
            }
        let begin = try Event(device: device, measuresTime: true)
        let end = try Event(device: device, measuresTime: true)
        var times: [Duration] = []
        for _ in 0..<rounds {
            try begin.record(stream)
            if let captured { try captured.graph.launch(stream) } else { inStep(body) }
            try end.record(stream)
            try end.wait("a measurement")
            times.append(.nanoseconds(Int64(Double(try end.milliseconds(since: begin)) * 1e6)))
        }
        try synchronize()
        return times
    }
}
