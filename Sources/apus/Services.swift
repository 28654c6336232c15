// The small services around the engine: one that ends when the engine does, one that knows whether listening
// succeeded, and the signals that end them all.

import Execution
import Foundation
import Logging
import ServiceLifecycle
import Serving
import Synchronization
import UnixSignals

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Lives as long as the engine; fails when the engine fails.
struct EngineService: Service {
    let engine: Engine

    func run() async throws {
        let (ended, continuation) = AsyncStream.makeStream(of: Never.self)
        Task {
            await engine.waitUntilEnded()
            continuation.finish()
        }
        // Unlike waiting for the engine itself, this ends when the task is cancelled: an engine that hangs must not
        // keep the process.
        for await _ in ended {}
        if let failure = engine.failure { throw failure }
        // The HTTP service drains the engine and then closes its connections; only after it is this one told to end.
        if !Task.isCancelled { try await gracefulShutdown() }
    }
}

/// The HTTP server, telling a failure to listen from a failure while serving.
struct HTTPService: Service {
    let server: Server
    /// Raised when connections are accepted.
    let hasListened: Latch
    /// What is listened on, for messages.
    let address: String

    func run() async throws {
        do {
            try await server.run()
        } catch {
            guard hasListened.isRaised || error is CancellationError else {
                throw StartupError.cannotListen(address: address, reason: "\(error)")
            }
            throw error
        }
    }
}

/// Takes new certificates while the server runs: when SIGHUP asks for it, and by itself where it is to.
struct CertificateService: Service {
    let certificates: TLSCertificates
    /// Whether the files are looked at without being asked.
    let looksForItself: Bool
    let logger: Logger

    func run() async throws {
        let signals = await UnixSignalsSequence(trapping: .sighup)
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { tasks in
                tasks.addTask { for await _ in signals { refresh(isAsked: true) } }
                tasks.addTask {
                    while await Self.pause(), looksForItself { refresh(isAsked: false) }
                }
            }
        }
    }

    /// Waits until the files are to be looked at again.
    /// - Returns: false once the task is cancelled.
    private static func pause() async -> Bool {
        do {
            try await Task.sleep(for: .seconds(5))
            return true
        } catch {
            return false
        }
    }

    private func refresh(isAsked: Bool) {
        do throws(TLSFileError) {
            if try certificates.refresh() {
                logger.notice("New connections use the new certificate, which ends \(certificates.end).")
            } else if isAsked {
                logger.notice("SIGHUP: the certificate files are unchanged.")
            }
        } catch {
            logger.error("The certificate in use stays, because \(error).")
        }
    }
}

/// A fact that becomes true once.
final class Latch: Sendable {
    private let value = Atomic(false)

    var isRaised: Bool { value.load(ordering: .acquiring) }

    func raise() { value.store(true, ordering: .releasing) }
}

/// SIGTERM and SIGINT: the first one drains, the second one ends the process at once.
enum ShutdownSignals {
    /// Runs `group` until it ends.
    static func run(_ group: ServiceGroup, logger: Logger) async throws {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            tasks.addTask {
                var isDraining = false
                for await signal in signals {
                    guard !isDraining else {
                        logger.error("\(signal) again: ending at once")
                        // Threads may be anywhere, so nothing is torn down.
                        _exit(128 + signal.number)
                    }
                    isDraining = true
                    logger.notice("\(signal): draining; a second signal ends at once")
                    await group.triggerGracefulShutdown()
                }
                // The sequence ends when the task is cancelled: the group has ended.
                try await Task.sleep(for: .seconds(3600))
            }
            defer { tasks.cancelAll() }
            try await tasks.next()
        }
    }
}

extension UnixSignal {
    /// The signal's number; shells add it to 128.
    fileprivate var number: Int32 {
        self == .sigterm ? SIGTERM : SIGINT
    }
}
