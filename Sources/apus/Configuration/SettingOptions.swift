// The settings as command-line options, grouped as the help shows them. An option takes its name and its help from
// the table and hands on its text unread; values are checked in one place, whatever source they come from.

import ArgumentParser

extension Option where Value == String? {
    package init(_ setting: Setting) {
        self.init(name: .customLong(setting.name), help: ArgumentHelp(setting.helpLine, valueName: setting.valueName))
    }
}

extension Option where Value == [String] {
    package init(wrappedValue: [String], _ setting: Setting) {
        self.init(
            wrappedValue: wrappedValue, name: .customLong(setting.name), parsing: .singleValue,
            help: ArgumentHelp(setting.helpLine, valueName: setting.valueName))
    }
}

extension Flag where Value == Bool? {
    package init(_ setting: Setting) {
        self.init(
            name: .customLong(setting.name), inversion: .prefixedNo, exclusivity: .chooseLast,
            help: ArgumentHelp(setting.helpLine))
    }
}

package struct ModelOptions: ParsableArguments {
    @Option(.config) var config: String?
    @Option(.servedModelName) var servedModelName: [String] = []
    @Option(.toolCallParser) var toolCallParser: String?
    @Option(.pooling) var pooling: String?
    @Option(.home) var home: String?
    @Option(.maxModelLen) var maxModelLen: String?

    package init() {}
}

package struct AdapterOptions: ParsableArguments {
    @Flag(.enableLoRA) var enableLoRA: Bool?
    @Option(.loraModules) var loraModules: [String] = []
    @Option(.maxLoRAs) var maxLoRAs: String?
    @Option(.maxLoRARank) var maxLoRARank: String?
    @Option(.loraDir) var loraDir: String?

    package init() {}
}

package struct ComputeOptions: ParsableArguments {
    @Option(.device) var device: String?
    @Option(.kernels) var kernels: String?
    @Option(.cudaKernels) var cudaKernels: String?
    @Option(.dtype) var dtype: String?
    @Option(.cpuISA) var cpuISA: String?
    @Option(.threads) var threads: String?
    @Option(.tensorParallelSize) var tensorParallelSize: String?
    @Option(.distributedTimeout) var distributedTimeout: String?
    @Option(.collectives) var collectives: String?

    package init() {}
}

package struct CacheOptions: ParsableArguments {
    @Option(.blockSize) var blockSize: String?
    @Flag(.enablePrefixCaching) var enablePrefixCaching: Bool?
    @Option(.kvCacheMemoryBytes) var kvCacheMemoryBytes: String?
    @Option(.kvCacheDtype) var kvCacheDtype: String?
    @Option(.gpuMemoryUtilization) var gpuMemoryUtilization: String?
    @Option(.numGPUBlocksOverride) var numGPUBlocksOverride: String?

    package init() {}
}

package struct SchedulingOptions: ParsableArguments {
    @Option(.maxNumSeqs) var maxNumSeqs: String?
    @Option(.maxNumBatchedTokens) var maxNumBatchedTokens: String?
    @Option(.maxNumQueuedReqs) var maxNumQueuedReqs: String?
    @Option(.maxNumQueuedTokens) var maxNumQueuedTokens: String?
    @Option(.ttftSLO) var ttftSLO: String?
    @Option(.tenantQueueShare) var tenantQueueShare: String?
    @Option(.engineStallTimeout) var engineStallTimeout: String?
    @Option(.schedulingPolicy) var schedulingPolicy: String?
    @Option(.longPrefillTokenThreshold) var longPrefillTokenThreshold: String?
    @Option(.numSpeculativeTokens) var numSpeculativeTokens: String?

    package init() {}
}

package struct HTTPOptions: ParsableArguments {
    @Option(.host) var host: String?
    @Option(.port) var port: String?
    @Option(.uds) var uds: String?
    @Option(.udsMode) var udsMode: String?
    @Option(.apiKey) var apiKey: [String] = []
    @Option(.apiKeyFile) var apiKeyFile: String?
    @Flag(.guardMetrics) var guardMetrics: Bool?
    @Flag(.allowUnauthenticated) var allowUnauthenticated: Bool?
    @Option(.allowedHosts) var allowedHosts: [String] = []
    @Option(.sslCertfile) var sslCertfile: String?
    @Option(.sslKeyfile) var sslKeyfile: String?
    @Option(.sslCACerts) var sslCACerts: String?
    @Option(.sslCertReqs) var sslCertReqs: String?
    @Flag(.enableSSLRefresh) var enableSSLRefresh: Bool?
    @Option(.maxConnections) var maxConnections: String?
    @Option(.maxRequestBodyBytes) var maxRequestBodyBytes: String?
    @Option(.requestHeaderTimeout) var requestHeaderTimeout: String?
    @Option(.requestBodyTimeout) var requestBodyTimeout: String?
    @Option(.writeTimeout) var writeTimeout: String?
    @Option(.sseKeepAliveInterval) var sseKeepAliveInterval: String?
    @Flag(.enablePromptTokensDetails) var enablePromptTokensDetails: Bool?
    @Option(.timeoutKeepAlive) var timeoutKeepAlive: String?
    @Option(.shutdownTimeout) var shutdownTimeout: String?
    @Option(.allowedOrigins) var allowedOrigins: [String] = []
    @Option(.allowedMethods) var allowedMethods: [String] = []
    @Option(.allowedHeaders) var allowedHeaders: [String] = []
    @Flag(.allowCredentials) var allowCredentials: Bool?

    package init() {}
}

package struct LoggingOptions: ParsableArguments {
    @Option(.logLevel) var logLevel: String?
    @Option(.logFormat) var logFormat: String?
    @Flag(.disableLogStats) var disableLogStats: Bool?
    @Option(.disableAccessLogForEndpoints) var disableAccessLogForEndpoints: [String] = []
    @Option(.profileDir) var profileDir: String?

    package init() {}
}

package struct MetricsOptions: ParsableArguments {
    @Option(.ttftBuckets) var ttftBuckets: [String] = []
    @Option(.itlBuckets) var itlBuckets: [String] = []
    @Option(.e2eBuckets) var e2eBuckets: [String] = []

    package init() {}
}

// MARK: Reading what was given

extension SettingSource {
    /// The flags given in `groups`, and the model if it was given as an argument.
    ///
    /// The groups hold nothing but options declared from the table, so each property's label is its setting's name in
    /// camel case; a test sets every flag and finds it here.
    package init(flags groups: [any ParsableArguments], model: String? = nil) {
        self.init()
        if let model { given.append(GivenSetting(Setting.model.name, [model], from: .flag)) }
        for child in groups.flatMap({ Array(Mirror(reflecting: $0).children) }) {
            let texts: [String] =
                switch child.value {
                case let option as Option<String?>: option.wrappedValue.map { [$0] } ?? []
                case let option as Option<[String]>: option.wrappedValue
                case let flag as Flag<Bool?>: flag.wrappedValue.map { [String($0)] } ?? []
                default: []
                }
            guard !texts.isEmpty, let label = child.label,
                let setting = Setting.all.first(where: { $0.propertyLabel == label.lowercased() })
            else { continue }
            given.append(GivenSetting(setting.name, texts, from: .flag))
        }
    }
}

extension Setting {
    /// The label of the property wrapper's storage, in lower case: `_maxnumseqs` for max-num-seqs.
    fileprivate var propertyLabel: String {
        "_" + name.replacing("-", with: "")
    }

    /// The help of the flag: the sentence, and the default unless it goes without saying.
    package var helpLine: String {
        defaultValue == .unset ? help : "\(help) (default: \(describe(defaultValue)))"
    }

    /// What stands for the value in the help text: the allowed words, or the kind of value.
    package var valueName: String {
        switch kind {
        case .boolean: ""
        case .integer: "n"
        case .oneOf(let allowed): allowed.map { String($0) }.joined(separator: "|")
        case .bytes: "size"
        case .duration: "time"
        case .fraction: "fraction"
        case .choice(let words): words.count > 4 ? "word" : words.joined(separator: "|")
        case .text: "text"
        case .path: "path"
        case .texts: "name"
        case .bounds: "seconds"
        }
    }
}
