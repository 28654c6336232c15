// From settings to the small structs that components take. After this nobody sees a setting again.

import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Serving
import Tensors

extension EngineConfiguration {
    /// The engine's limits, given the memory that was measured and a secret made for this process.
    /// - Parameter isOnGPU: chooses among the defaults, where a setting is left to the server.
    init(
        _ settings: ResolvedSettings, isOnGPU: Bool, availableMemoryBytes: Int, cacheKey: (UInt64, UInt64)
    ) {
        self.init(availableMemoryBytes: availableMemoryBytes, cacheKey: cacheKey)
        blockSize = settings.number(.blockSize)
        maxModelLength = settings.integer(.maxModelLen)
        let defaults = (sequences: isOnGPU ? 256 : maxSequences, tokens: isOnGPU ? 4096 : tokenBudget)
        // A step gives every running sequence a token: a limit that is given bends the one that is not.
        let budget = settings.integer(.maxNumBatchedTokens)
        maxSequences = settings.integer(.maxNumSeqs) ?? min(defaults.sequences, budget ?? .max)
        tokenBudget = budget ?? max(defaults.tokens, maxSequences)
        enablePrefixCaching = settings.boolean(.enablePrefixCaching)
        policy = settings.choice(.schedulingPolicy)
        longPrefillTokenThreshold = settings.number(.longPrefillTokenThreshold)
        speculation = SpeculationLimits(draftTokenCount: settings.number(.numSpeculativeTokens))
        kvCacheMemoryBytes = settings.integer(.kvCacheMemoryBytes)
        kvCacheType = settings.choice(.kvCacheDtype)
        blockCountOverride = settings.integer(.numGPUBlocksOverride)
        maxQueuedRequests = settings.number(.maxNumQueuedReqs)
        maxQueuedTokens = settings.number(.maxNumQueuedTokens)
        let target = settings.duration(.ttftSLO)
        timeToFirstTokenTarget = target > .zero ? target : nil
        tenantQueueShare = Double(settings.number(.tenantQueueShare)) / 1000
        adapters = AdapterRules(settings).map {
            AdapterLimits(count: $0.placeCount, maxRank: settings.number(.maxLoRARank))
        }
        latencyBuckets.firstToken = settings.bounds(.ttftBuckets) ?? latencyBuckets.firstToken
        latencyBuckets.perToken = settings.bounds(.itlBuckets) ?? latencyBuckets.perToken
        latencyBuckets.request = settings.bounds(.e2eBuckets) ?? latencyBuckets.request
    }
}

extension ServingConfiguration {
    /// The server's addresses and limits.
    /// - Parameters:
    ///   - modelName: what the model is called when `served-model-name` does not say.
    ///   - defaults: the sampling that the checkpoint's publisher recommends.
    ///   - pooling: what the checkpoint says makes an embedding.
    init(_ settings: ResolvedSettings, modelName: String, defaults: GenerationDefaults, pooling: Pooling? = nil) {
        let names = settings.texts(.servedModelName)
        self.init(servedModelNames: names.isEmpty ? [modelName] : names, version: Version.current)
        modelRoot = modelName
        switch settings.text(.pooling) {
        case "last": self.pooling = .lastToken
        case "mean": self.pooling = .mean
        default: self.pooling = pooling ?? .lastToken
        }
        host = settings.text(.host) ?? host
        port = settings.number(.port)
        socketPath = settings.text(.uds)
        socketMode = settings.text(.udsMode) == "0660" ? 0o660 : 0o600
        toolCallForm = settings.text(.toolCallParser).flatMap { ToolCallForm(rawValue: $0) }
        profileFolder = settings.text(.profileDir)
        unloggedPaths = Set(settings.texts(.disableAccessLogForEndpoints))
        guardsMetrics = settings.boolean(.guardMetrics)
        allowedHosts.names = settings.texts(.allowedHosts)
        allowedHosts.guardsLocalServer = settings.isForAnyoneHere
        crossOrigin.origins = settings.texts(.allowedOrigins)
        crossOrigin.methods = settings.texts(.allowedMethods)
        crossOrigin.headers = settings.texts(.allowedHeaders)
        crossOrigin.allowsCredentials = settings.boolean(.allowCredentials)
        adapters = AdapterRules(settings)
        maxConnections = settings.number(.maxConnections)
        maxBodyBytes = settings.number(.maxRequestBodyBytes)
        requestHeadTimeout = settings.duration(.requestHeaderTimeout)
        requestReadTimeout = settings.duration(.requestBodyTimeout)
        writeStallTimeout = settings.duration(.writeTimeout)
        heartbeatInterval = settings.duration(.sseKeepAliveInterval)
        reportsCachedTokens = settings.boolean(.enablePromptTokensDetails)
        keepAliveTimeout = settings.duration(.timeoutKeepAlive)
        drainTimeout = settings.duration(.shutdownTimeout)
        self.defaults.temperature = defaults.temperature ?? self.defaults.temperature
        self.defaults.topP = defaults.topP.map { $0 > 0 ? $0 : 1 } ?? self.defaults.topP
        self.defaults.topK = defaults.topK.map { max(0, $0) } ?? self.defaults.topK
        self.defaults.minP = defaults.minP ?? self.defaults.minP
    }
}

extension AdapterRules {
    /// What is allowed of adapters; nil where they are off.
    init?(_ settings: ResolvedSettings) {
        guard settings.boolean(.enableLoRA) else { return nil }
        self.init(maxCount: settings.number(.maxLoRAs), allowsLoading: settings.text(.loraDir) != nil)
    }
}

extension ResolvedSettings {
    /// Whether everybody on this machine, and nobody else, may use the server.
    fileprivate var isForAnyoneHere: Bool {
        ConfigurationCheck.isLoopback(text(.host) ?? "127.0.0.1") && text(.uds) == nil && texts(.apiKey).isEmpty
            && text(.apiKeyFile) == nil && !demandsCertificates
    }

    /// Whether every client needs a certificate.
    var demandsCertificates: Bool { text(.sslCACerts) != nil && clientCertificates == .required }

    /// What is asked of clients where there are authorities to know them by; the numbers are Python's for the words.
    var clientCertificates: TLSCertificates.ClientCertificates {
        switch text(.sslCertReqs) {
        case "none", "0": .none
        case "optional", "1": .optional
        default: .required
        }
    }
}

/// What the compute backend is to be.
struct ComputeConfiguration: Sendable, Equatable {
    var precision: ComputePrecision
    /// nil for the best this machine has.
    var instructionSet: String?
    var threads: Int
    /// The share of a GPU's free memory to use, 0.01 to 1.
    var gpuMemoryShare: Double
    /// How many ranks share the model, and how long they wait for one another.
    var rankCount: Int
    var rankDeadline: Duration

    /// - Parameter coreCount: the cores this process may use, which `threads: auto` takes all of.
    init(_ settings: ResolvedSettings, coreCount: Int) {
        precision = settings.choice(.dtype)
        let name = settings.text(.cpuISA)
        instructionSet = name == "auto" ? nil : name
        gpuMemoryShare = Double(settings.number(.gpuMemoryUtilization)) / 1000
        threads = settings.integer(.threads) ?? min(max(1, coreCount), 512)
        rankCount = settings.number(.tensorParallelSize)
        rankDeadline = settings.duration(.distributedTimeout)
    }
}
