// The small services around the engine: one that ends when the engine does, one that knows whether listening
// succeeded, and the signals that end them all.

import Execution
import Foundation
import Logging
import NIOCore
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
                throw StartupError.cannotListen(address: address, reason: Self.reason(error))
            }
            throw error
        }
    }

    /// What the system says, in words.
    private static func reason(_ error: any Error) -> String {
        switch (error as? IOError)?.errnoCode {
        case EADDRINUSE: "another process listens on it"
        case EADDRNOTAVAIL: "this machine has no such address"
        case EACCES, EPERM: "permission denied"
        default: "\(error)"
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

/// SIGTERM and SIGINT: the first one drains, the second one ends the process at once. So does the first one while the
/// model loads: there is nothing to drain, and the first process of a container is not ended by a signal that it does
/// not take.
final class ShutdownSignals: Sendable {
    private enum Phase {
        case loading, draining
        case serving(ServiceGroup)
    }

    private let phase = Mutex(Phase.loading)
    private let logger: Logger

    private init(logger: Logger) { self.logger = logger }

    /// Takes the signals from now on.
    static func taken(logger: Logger) async -> ShutdownSignals {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        let shutdown = ShutdownSignals(logger: logger)
        Task { for await signal in signals { await shutdown.receive(signal) } }
        return shutdown
    }

    /// Runs `group` until it ends.
    func run(_ group: ServiceGroup) async throws {
        phase.withLock { $0 = .serving(group) }
        try await group.run()
    }

    private func receive(_ signal: UnixSignal) async {
        let before = phase.withLock { phase in
            let before = phase
            if case .serving = phase { phase = .draining }
            return before
        }
        // Threads may be anywhere, so nothing is torn down by whoever ends at once.
        switch before {
        case .loading:
            logger.notice("\(signal): ending; nothing was served yet")
            _exit(ExitStatus.success.rawValue)
        case .serving(let group):
            logger.notice("\(signal): draining; a second signal ends at once")
            await group.triggerGracefulShutdown()
        case .draining:
            logger.error("\(signal) again: ending at once")
            _exit(128 + signal.number)
        }
    }
}

extension UnixSignal {
    /// The signal's number; shells add it to 128.
    fileprivate var number: Int32 {
        self == .sigterm ? SIGTERM : SIGINT
    }
}
