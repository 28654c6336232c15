// What the server does about an engine that stalls: the state goes to the log, and an engine that is given up takes the
// process with it, because a thread that hangs in a device cannot be ended any other way.

import Execution
import Foundation
import Logging

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Hears what the watchdog has to say, on the watchdog's thread. Lines are written from others: a log that nobody reads
/// may be what the engine waits for, and must not stop the watchdog too.
struct StallResponse: Sendable {
    let logger: Logger

    func respond(_ event: StallEvent) {
        switch event {
        case .stalled(let report):
            Thread.detachNewThread { logger.error("\(report)") }
        case .recovered(let duration):
            Thread.detachNewThread {
                logger.notice("The engine completed a step again, after \(duration.components.seconds) s.")
            }
        case .hung(let stall):
            end(because: stall)
        }
    }

    /// Ends the process. Threads may be anywhere, so nothing is torn down; the last line gets a second to be written.
    private func end(because stall: EngineStall) -> Never {
        Thread.detachNewThread {
            logger.critical("\(stall)")
            _exit(ExitStatus(stall).rawValue)
        }
        Thread.sleep(forTimeInterval: 1)
        _exit(ExitStatus(stall).rawValue)
    }
}
