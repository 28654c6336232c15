// Time as this thread spent it, so that a test of cost does not measure what else the machine is doing.

import Foundation
import Testing

enum ProcessorTime {
    static func now() throws -> Duration {
        var time = timespec()
        try #require(unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}
