// Puts the server together: backend, model, engine, HTTP, observers, and the order in which they end. The only file
// that names a concrete backend.

import CPUBackend
import CUDABackend
import Checkpoints
import Execution
import Foundation
import Logging
import Models
import Scheduling
import ServiceLifecycle
import Serving
import Synchronization
import Tensors

/// A model on an engine, with what was measured while it started.
struct RunningModel: Sendable {
    let model: ModelFile
    let engine: Engine
    let device: ComputeDevice
    let compute: ComputeConfiguration
    let configuration: EngineConfiguration
    /// Each phase of starting and how long it took.
    let phases: [(name: String, duration: Duration)]

    /// Opens the checkpoint at `path` and starts an engine on it.
    /// - Parameter adjust: changes the engine's configuration before it starts.
    static func start(
        path: String, settings: ResolvedSettings, adjust: (inout EngineConfiguration) -> Void = { _ in }
    ) async throws -> RunningModel {
        let begin = ContinuousClock.now
        let model = try ModelFile(path: path)
        let opened = begin.duration(to: .now)
        let started = try await start(model.config, weights: model.weights, settings: settings, adjust: adjust)
        return RunningModel(
            model: model, engine: started.engine, device: started.device, compute: started.compute,
            configuration: started.configuration,
            phases: [(name: "open", duration: opened)] + started.phases)
    }

    /// An engine without a tokenizer, and how it was started.
    struct StartedEngine: Sendable {
        let engine: Engine
        let device: ComputeDevice
        let compute: ComputeConfiguration
        let configuration: EngineConfiguration
        let phases: [(name: String, duration: Duration)]
    }

    /// Starts an engine on the weights of a model, wherever they come from.
    static func start(
        _ config: ModelConfig, weights: any TensorSource & Sendable, settings: ResolvedSettings,
        adjust: (inout EngineConfiguration) -> Void
    ) async throws -> StartedEngine {
        let device = try ComputeDevice.choose(settings)
        var configuration = EngineConfiguration(
            settings, isOnGPU: device.isGPU, availableMemoryBytes: MachineMemory.availableBytes(),
            cacheKey: (.random(in: 0 ... .max), .random(in: 0 ... .max)))
        configuration.retrySeed = .random(in: 0 ... .max)
        adjust(&configuration)
        let compute = ComputeConfiguration(settings, coreCount: MachineCores.available())
        var limits = configuration
        // Those of one rank: on the CPU all have the machine's memory together.
        if !device.isGPU { limits.availableMemoryBytes /= compute.rankCount }
        let group = compute.rankCount > 1 ? RankGroup(count: compute.rankCount, deadline: compute.rankDeadline) : nil
        let placement = try group.map { (group) throws(BackendError) in
            try RankPlacement(group, device, collectives: settings.text(.collectives) ?? "auto")
        }
        let engine = try await Engine.start(limits, group: group) { [limits] rank in
            try parts(
                config, weights: weights, device: device, compute: compute, limits: limits,
                placement: placement, rank: rank)
        }
        var phases: [(name: String, duration: Duration)] = []
        var previous = Duration.zero
        for phase in engine.information.startupPhases {
            phases.append((name: phase.name, duration: phase.duration - previous))
            previous = phase.duration
        }
        return StartedEngine(
            engine: engine, device: device, compute: compute, configuration: configuration, phases: phases)
    }

    /// The backend and the model on it; called on the engine's thread, or on that of each rank.
    private static func parts(
        _ config: ModelConfig, weights: any TensorSource, device: ComputeDevice, compute: ComputeConfiguration,
        limits: EngineConfiguration, placement: RankPlacement?, rank: Int
    ) throws -> EngineParts {
        func load(_ backend: any Backend) throws -> any LanguageModel {
            try Registry.load(
                config, weights: WeightReader(weights), capacity: StepCapacity(limits, backend: backend),
                backend: backend)
        }
        switch device {
        case .cpu:
            let backend = try makeCPUBackend(compute, seat: placement?.seat(rank))
            _ = try backend.kvCacheType(limits.kvCacheType)
            return EngineParts(backend: backend, model: try load(backend))
        case .cuda(let choice, let kernels):
            let device = placement == nil ? choice : try choice.ofRank(rank, of: compute.rankCount)
            let backend = try makeCUDABackend(device, kernels)
            if case .devices(let ranks) = placement {
                try backend.join(ranks, as: Shard(rank: rank, of: compute.rankCount))
            }
            _ = try backend.kvCacheType(limits.kvCacheType)
            let before = try backend.memory().free
            let loaded = try load(backend)
            let used = before - (try backend.memory().free)
            // What the step's scratch memory and captured graphs take comes out of the share that is left alone.
            let share = Int(Double(before) * compute.gpuMemoryShare)
            return EngineParts(backend: backend, model: loaded, cacheMemoryBytes: max(0, share - used))
        }
    }

    static func makeCUDABackend(
        _ choice: DeviceChoice, _ kernels: KernelImages
    ) throws(BackendError) -> CUDABackend {
        var options = CUDABackend.Options()
        options.device = choice
        return try CUDABackend(options, driver: Driver(), kernels: kernels)
    }

    /// The CPU as `compute` asks for it, or a rank's share of its threads.
    static func makeCPUBackend(
        _ compute: ComputeConfiguration, seat: RankSeat? = nil
    ) throws(BackendError) -> CPUBackend {
        try CPUBackend(
            precision: compute.precision,
            instructionSet: compute.instructionSet.flatMap { CPUInstructionSet(rawValue: $0) },
            threads: seat == nil ? compute.threads : max(1, compute.threads / compute.rankCount), seat: seat)
    }
}

extension Stopwatch {
    /// Events on a GPU, the host's clock elsewhere.
    init(for backend: any Backend) {
        if let device = backend as? CUDABackend {
            self.init(isOnDevice: true) { rounds, isCaptured, body in
                try device.time(rounds: rounds, isCaptured: isCaptured, body)
            }
        } else {
            self.init(hostClockFor: backend)
        }
    }
}

/// The services of `apus serve`.
struct ServerAssembly: Sendable {
    let settings: ResolvedSettings
    /// What the operator called the model.
    let modelName: String
    let running: RunningModel
    let keys: APIKeys
    /// nil serves HTTP in the clear.
    let certificates: TLSCertificates?
    let signals: ShutdownSignals
    let logger: Logger
    let sink: LogSink

    /// Serves until a signal or a failure ends it.
    func run() async throws {
        var configuration = ServingConfiguration(
            settings, modelName: modelName, defaults: running.model.generationDefaults,
            pooling: running.model.pooling)
        configuration.keys = keys
        var served = ServedModel(
            running.engine.information, tokenizer: running.model.tokenizer,
            chatTemplate: running.model.chatTemplate, stopTokens: running.model.stopTokens)
        served.gpuMemoryUtilization = running.compute.gpuMemoryShare
        let digests = running.model.digests
        served.digests = ServedDigests(
            model: digests.model, tokenizer: digests.tokenizer, template: digests.template)
        let template = digests.template ?? "none"
        logger.info("Model \(digests.model), tokenizer \(digests.tokenizer), chat template \(template)")
        let hasListened = Latch()
        let server = Server(
            configuration: configuration, model: served, engine: running.engine, logger: logger,
            certificates: certificates, adapters: try await adapters(configuration),
            onListening: { [configuration] port in
                hasListened.raise()
                announce(configuration, port: port)
            })
        let http = HTTPService(
            server: server, hasListened: hasListened,
            address: configuration.socketPath
                ?? "\(configuration.host):\(configuration.port)")
        let observer = EngineObserver(
            engine: running.engine, logger: logger, logsThroughput: !settings.boolean(.disableLogStats))
        running.engine.watch(
            StallLimits(timeout: settings.duration(.engineStallTimeout)), report: StallResponse(logger: logger).respond)
        // Services end in reverse order: the observer, then HTTP, which drains the engine first. When the engine fails,
        // HTTP still tells its clients; the process then ends with the engine's error.
        var group = ServiceGroupConfiguration(
            services: [
                .init(
                    service: EngineService(engine: running.engine),
                    failureTerminationBehavior: .gracefullyShutdownGroup),
                .init(service: http),
                .init(service: observer),
            ],
            logger: quietLogger)
        if let certificates {
            let renewal = CertificateService(
                certificates: certificates, looksForItself: settings.boolean(.enableSSLRefresh), logger: logger)
            group.services.append(.init(service: renewal))
        }
        group.maximumGracefulShutdownDuration = configuration.drainTimeout + .seconds(10)
        group.maximumCancellationDuration = .seconds(10)
        try await signals.run(ServiceGroup(configuration: group))
        logger.notice("Drained; bye.")
    }

    /// The adapters that are there from the start; a client that names one must never be told that there is none.
    private func adapters(_ configuration: ServingConfiguration) async throws -> AdapterLibrary {
        guard let layout = running.engine.information.adapters else { return AdapterLibrary() }
        if let folder = settings.text(.loraDir), !FileManager.default.fileExists(atPath: folder) {
            throw StartupError.noAdapterFolder(folder)
        }
        let clients = EngineAdapters(engine: running.engine, layout: layout, folder: settings.text(.loraDir))
        let library = AdapterLibrary(rules: configuration.adapters, source: clients)
        let own = OperatorAdapters(clients: clients)
        for module in settings.texts(.loraModules).compactMap({ AdapterModule($0) }) {
            do throws(AdapterRefusal) {
                try await library.load(
                    name: module.name, path: module.path, reserved: configuration.servedModelNames, from: own)
            } catch {
                throw StartupError.unusableAdapter(name: module.name, reason: error.description)
            }
            logger.info("The adapter '\(module.name)' was loaded from \(module.path)")
        }
        return library
    }

    private func announce(_ configuration: ServingConfiguration, port: Int) {
        let report = StartupReport(self, configuration: configuration, port: port)
        if settings.choice(.logFormat, as: LogFormat.self) == .json {
            let members = LineLogHandler.jsonHead(level: .info, message: "ready") + [("report", report.json)]
            sink.write(JSONText.object(members).line)
        } else {
            logger.info("\(report.text)")
            logger.debug("startup report \(report.json.line)")
        }
        if report.isReachableByOthers && report.keyCount == 0 {
            logger.warning("There are no API keys: everyone who can reach \(configuration.host) can use this server.")
        }
    }

    /// The service group's own lines are for debugging.
    private var quietLogger: Logger {
        var quiet = logger
        if quiet.logLevel > .debug { quiet.logLevel = .error }
        return quiet
    }
}

extension StartupReport {
    fileprivate init(_ assembly: ServerAssembly, configuration: ServingConfiguration, port: Int) {
        let running = assembly.running
        let information = running.engine.information
        let settings = assembly.settings
        let host = configuration.host.contains(":") ? "[\(configuration.host)]" : configuration.host
        self.init(
            version: Version.current, model: assembly.modelName, servedModelNames: configuration.servedModelNames,
            architecture: information.architecture, parameterCount: running.model.parameterCount,
            storedTypes: running.model.storedTypes, device: information.backendSummary,
            dtype: running.compute.precision.rawValue, memory: information.memory, kvCacheType: information.kvCacheType,
            availableMemoryBytes: running.configuration.availableMemoryBytes,
            contextLength: running.model.config.contextLength, maxSequences: information.maxSequences,
            tokenBudget: information.tokenBudget, maxQueuedRequests: information.maxQueuedRequests,
            maxQueuedTokens: running.configuration.maxQueuedTokens, policy: running.configuration.policy,
            enablePrefixCaching: information.enablePrefixCaching,
            address: configuration.socketPath.map { "unix:\($0)" }
                ?? "\(assembly.certificates == nil ? "http" : "https")://\(host):\(port)",
            isReachableByOthers: configuration.socketPath == nil && !ConfigurationCheck.isLoopback(configuration.host),
            keyCount: configuration.keys.count, phases: running.phases,
            given: settings.given)
    }
}
