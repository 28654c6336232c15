// The HTTP server as a service: listens, serves, and on a graceful shutdown first lets the engine drain and only then
// closes its connections, so that no stream is cut that could have finished.

import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle

/// Serves one engine over HTTP.
package struct Server: Service {
    private let configuration: ServingConfiguration
    private let model: ServedModel
    private let engine: any TextEngine
    private let logger: Logger
    private let certificates: TLSCertificates?
    private let adapters: AdapterLibrary
    /// nil listens on a port.
    private let socket: SocketFile?
    private let onListening: @Sendable (_ port: Int) async -> Void

    /// - Parameters:
    ///   - certificates: what TLS is offered with; nil serves HTTP in the clear.
    ///   - adapters: what requests may name beside the model.
    ///   - onListening: called once with the port when connections are accepted.
    package init(
        configuration: ServingConfiguration, model: ServedModel, engine: any TextEngine, logger: Logger,
        certificates: TLSCertificates? = nil, adapters: AdapterLibrary = AdapterLibrary(),
        onListening: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.model = model
        self.engine = engine
        self.logger = logger
        self.certificates = certificates
        self.adapters = adapters
        socket = configuration.socketPath.map {
            SocketFile(path: $0, permissions: configuration.socketMode, logger: logger)
        }
        self.onListening = onListening
    }

    /// Serves until a graceful shutdown or until the task is cancelled.
    ///
    /// A graceful shutdown refuses new requests with 503 at once, waits `drainTimeout` for those accepted, ends the
    /// rest with an error event, and returns when the last connection is closed. Cancellation ends everything at once.
    /// - Throws: the error of binding the address.
    package func run() async throws {
        let threads = TokenizerThreads(
            threadCount: configuration.tokenizerThreadCount, maxCalls: configuration.maxTokenizerCalls)
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: max(1, configuration.eventLoopCount))
        // A grammar may take long to make, and must not hold up those who only tokenize.
        let constraintThread = TokenizerThreads(threadCount: 1, maxCalls: 0)
        let state = ServingState(
            configuration: configuration, model: model, engine: engine, threads: threads,
            deliveries: EventDeliveries(loops), constraintThread: constraintThread, adapters: adapters)
        let outcome: Result<Void, any Error>
        do {
            try await socket?.checkIsFree(loops)
            try await serve(application(state, loops))
            outcome = .success(())
        } catch {
            outcome = .failure(error)
        }
        socket?.remove()
        try await threads.shutdown()
        try await constraintThread.shutdown()
        try await loops.shutdownGracefully()
        try outcome.get()
    }

    private func serve(_ application: some Service) async throws {
        // The application has a group and a task of its own: it must not see the shutdown before the engine drained.
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(services: [application], logger: quietLogger))
        let serving = Task.detached { try await group.run() }
        try await withTaskCancellationHandler {
            try await withGracefulShutdownHandler {
                try await serving.value
            } onGracefulShutdown: {
                Task {
                    await engine.drain(timeout: configuration.drainTimeout)
                    await group.triggerGracefulShutdown()
                }
            }
        } onCancel: {
            serving.cancel()
        }
    }

    private func application(
        _ state: ServingState, _ loops: MultiThreadedEventLoopGroup
    ) -> Application<Router> {
        let limits = ConnectionLimits(configuration)
        let openConnections = state.openConnections
        return Application(
            responder: Router(state: state, logger: logger),
            server: .init { [certificates] responder in
                HTTPConnection(
                    responder: responder, limits: limits, openConnections: openConnections, certificates: certificates)
            },
            configuration: ApplicationConfiguration(
                address: address, backlog: 1024,
                availableConnectionsDelegate: MaximumAvailableConnections(
                    configuration.maxConnections, logger: quietLogger)),
            onServerRunning: { [onListening] channel in
                acceptOneByOne(channel)
                // Until this line the umask decides; connecting needs the permission to write.
                socket?.take()
                await onListening(channel.localAddress?.port ?? 0)
            },
            eventLoopGroupProvider: .shared(loops),
            logger: quietLogger)
    }

    /// A burst that is accepted in one go would pass the limit on connections by three.
    private func acceptOneByOne(_ channel: any Channel) {
        channel.setOption(ChannelOptions.maxMessagesPerRead, value: 1).whenFailure { [logger] error in
            logger.error("A few connections more than allowed may be open.", metadata: ["detail": "\(error)"])
        }
    }

    private var address: BindAddress {
        if let socket { return .unixDomainSocket(path: socket.path) }
        return .hostname(configuration.host, port: configuration.port)
    }

    /// The libraries' own lines are for debugging; what an operator reads is written by the caller.
    private var quietLogger: Logger {
        var quiet = logger
        if quiet.logLevel > .debug { quiet.logLevel = .critical }
        return quiet
    }
}
