// How `apus bench kernels` takes times: on the device where it keeps its own, else around the calls.

import Execution
import Tensors

/// Times rounds of operations.
package struct Stopwatch {
    /// Whether the times are the device's own, without the host's launches.
    package let isOnDevice: Bool
    /// The time of each of some rounds; a body that neither samples nor uploads may be captured and replayed.
    package let time: (_ rounds: Int, _ isCaptured: Bool, _ body: () -> Void) throws -> [Duration]

    package init(
        isOnDevice: Bool, time: @escaping (_ rounds: Int, _ isCaptured: Bool, _ body: () -> Void) throws -> [Duration]
    ) {
        self.isOnDevice = isOnDevice
        self.time = time
    }

    /// The host's clock, for a backend that computes while it is called.
    package init(hostClockFor backend: any Backend) {
        self.init(isOnDevice: false) { rounds, _, body in
            body()
            try backend.synchronize()
            return try (0..<rounds).map { _ in
                let start = ContinuousClock.now
                body()
                try backend.synchronize()
                return start.duration(to: .now)
            }
        }
    }

    /// Seconds of one of `calls`, made in turn: the median over rounds that together take about `seconds`.
    func secondsOfOne(_ calls: [() -> Void], canBeCaptured: Bool, seconds: Double) throws -> Double {
        func round(_ count: Int) -> () -> Void {
            { for index in 0..<count { calls[index % calls.count]() } }
        }
        let first = try time(1, false, round(calls.count))[0].seconds / Double(calls.count)
        // A round on a device has the time of launching it in it; everywhere the clock has a resolution.
        let shortest = max(5e-4 / max(first, 1e-7), isOnDevice ? 32 : 1)
        let cycles = Int((min(shortest, 2048) / Double(calls.count)).rounded(.up))
        let count = max(1, cycles) * calls.count
        let rounds = Int(min(30, max(3, seconds / (max(first, 1e-7) * Double(count)))))
        let times = try time(rounds, canBeCaptured, round(count)).map(\.seconds).sorted()
        return times[times.count / 2] / Double(count)
    }
}
