// Time as this thread spent it, so that a test of cost does not measure what else the machine is doing.

import Foundation
import Testing

enum ProcessorTime {
    /// The least processor time that `work` took in `attempts` runs.
    static func least(of attempts: Int, _ work: () throws -> Void) throws -> Duration {
        let times = try (0..<attempts).map { _ in
            let start = try now()
            try work()
            return try now() - start
        }
        return try #require(times.min())
    }

    private static func now() throws -> Duration {
        var time = timespec()
        try #require(unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}
