// The table of settings. Adding one is adding it here and to its option group (SettingOptions.swift); the flag, the
// variable, the file key, the checks, the help and docs/configuration.md follow.
//
// Names are vLLM's where it has the setting. Every limit has a default, so that nothing is unbounded unless asked.

import Tensors

extension Setting {
    // MARK: Model

    package static let config = Setting(
        "config", .model, .path, "YAML file of settings, by the names of these flags")
    package static let model = Setting(
        "model", .model, .text, "Catalog name, GGUF file, folder, or hub repository", aliases: ["model-path", "m"])
    package static let servedModelName = Setting(
        "served-model-name", .model, .texts, "Names clients call the model by", aliases: ["alias", "model-name"])
    package static let toolCallParser = Setting(
        "tool-call-parser", .model, .choice(["auto", "hermes", "llama3_json", "mistral", "pythonic"]),
        default: .text("auto"), "Form in which calls are written")
    package static let pooling = Setting(
        "pooling", .model, .choice(["auto", "last", "mean"]), default: .text("auto"),
        "Which states make an embedding", aliases: ["pooling-type"])
    package static let home = Setting(
        "home", .model, .path, "Where pulled models are kept (default: user's cache)",
        aliases: ["cache-dir", "download-dir"])
    package static let maxModelLen = Setting(
        "max-model-len", .model, .integer(2...(1 << 24)), allowsAuto: true, default: .auto,
        "Longest prompt plus completion",
        aliases: ["context-length", "ctx-size", "max-seq-len", "max-total-tokens", "max-context-len"])

    // MARK: LoRA adapters

    package static let enableLoRA = Setting(
        "enable-lora", .adapters, .boolean, default: .boolean(false), "Make room for adapters")
    package static let loraModules = Setting(
        "lora-modules", .adapters, .texts, "Adapters to load, each as name=folder",
        aliases: ["lora", "lora-adapters", "lora-paths"])
    package static let maxLoRAs = Setting(
        "max-loras", .adapters, .integer(1...64), default: .integer(4), "Most adapters at one time",
        aliases: ["max-loaded-loras", "max-loras-per-batch", "max-cpu-loras"])
    package static let maxLoRARank = Setting(
        "max-lora-rank", .adapters, .integer(1...256), default: .integer(16), "Largest rank of one")
    package static let loraDir = Setting(
        "lora-dir", .adapters, .path, "Folder of those that clients may load",
        aliases: ["allow-runtime-lora-updating"])

    // MARK: Compute

    package static let device = Setting(
        "device", .compute, .text, default: .text("auto"),
        "auto, cpu, cuda, cuda:N or a UUID")
    package static let kernels = Setting(
        "kernels", .compute, .path, "Folder of CUDA kernels (default: beside the binary)")
    package static let cudaKernels = Setting(
        "cuda-kernels", .compute, .choice(["auto", "sm80", "sequential"]), default: .text("auto"),
        "sm80: none that only Hopper has; sequential: no overlap")
    package static let dtype = Setting(
        "dtype", .compute, .choice(["auto", "float32"]), default: .text("auto"),
        "float32 is the exact reference")
    package static let cpuISA = Setting(
        "cpu-isa", .compute, .choice(["auto", "avx512-bf16", "avx512", "avx2", "portable"]), default: .text("auto"),
        "Instruction set of the CPU kernels")
    package static let threads = Setting(
        "threads", .compute, .integer(1...512), allowsAuto: true, default: .auto,
        "Compute threads; auto is one per core", aliases: ["num-threads", "cpu-threads"])
    package static let tensorParallelSize = Setting(
        "tensor-parallel-size", .compute, .integer(1...64), default: .integer(1),
        "Ranks that share the model; one GPU each", aliases: ["tp-size", "tp", "tensor-parallel"])
    package static let distributedTimeout = Setting(
        "distributed-timeout", .compute, .duration(100...3_600_000), default: .integer(30_000),
        "Longest wait for another rank", aliases: ["distributed-timeout-seconds", "dist-timeout"])

    package static let collectives = Setting(
        "collectives", .compute, .text, default: .text("auto"),
        "auto, peers, nccl, or the path of NCCL's library")

    // MARK: KV cache

    package static let blockSize = Setting(
        "block-size", .cache, .oneOf([8, 16, 32, 64, 128]), default: .integer(16), "Tokens per KV block",
        aliases: ["page-size", "tokens-per-block", "pa-blk-size", "kv-block-size"])
    package static let enablePrefixCaching = Setting(
        "enable-prefix-caching", .cache, .boolean, default: .boolean(true),
        "Share blocks of equal beginnings")
    package static let kvCacheMemoryBytes = Setting(
        "kv-cache-memory-bytes", .cache, .bytes((1 << 20)...(1 << 44)), allowsAuto: true, default: .auto,
        "Memory of the KV cache",
        aliases: ["kv-cache-memory", "cpu-kvcache-space"])
    package static let kvCacheDtype = Setting(
        "kv-cache-dtype", .cache, .choice(KVCacheType.allCases.map(\.rawValue)), default: .text("auto"),
        "Form of keys and values", aliases: ["kv-cache-type", "cache-type-k", "cache-type-v"])
    package static let gpuMemoryUtilization = Setting(
        "gpu-memory-utilization", .cache, .fraction, default: .integer(900),
        "Share of a GPU's free memory to use", aliases: ["mem-fraction-static"])
    package static let numGPUBlocksOverride = Setting(
        "num-gpu-blocks-override", .cache, .integer(1...(1 << 30)),
        "Exactly this many KV blocks, for tests", aliases: ["num-blocks-override", "num-gpu-blocks", "num-blocks"])

    // MARK: Scheduling

    package static let maxNumSeqs = Setting(
        "max-num-seqs", .scheduling, .integer(1...4096), allowsAuto: true, default: .auto,
        "Sequences a step; 64, on a GPU 256",
        aliases: ["max-running-requests", "max-batch-size", "parallel", "max-seqs", "max-num-sequences"])
    package static let maxNumBatchedTokens = Setting(
        "max-num-batched-tokens", .scheduling, .integer(1...(1 << 20)), allowsAuto: true, default: .auto,
        "Tokens a step; 96, on a GPU 4096",
        aliases: ["chunked-prefill-size", "max-prefill-tokens", "max-num-tokens", "ubatch-size", "batch-size"])
    package static let maxNumQueuedReqs = Setting(
        "max-num-queued-reqs", .scheduling, .integer(1...(1 << 20)), default: .integer(1024),
        "Most requests that wait", aliases: ["max-queued-requests", "max-concurrent-requests"])
    package static let maxNumQueuedTokens = Setting(
        "max-num-queued-tokens", .scheduling, .integer(1...(1 << 40)), default: .integer(1 << 20),
        "Most prompt tokens that wait")
    package static let ttftSLO = Setting(
        "ttft-slo", .scheduling, .duration(0...3_600_000), default: .integer(0),
        "Refuse who would wait longer; 0 is never",
        aliases: ["ttft-target", "target-ttft", "slo-ttft", "max-queue-delay"])
    package static let tenantQueueShare = Setting(
        "tenant-queue-share", .scheduling, .fraction, default: .integer(500),
        "Most of the queue for one key of many")
    package static let engineStallTimeout = Setting(
        "engine-stall-timeout", .scheduling, .duration(1000...3_600_000), default: .integer(60_000),
        "Stalled after so long without a step", aliases: ["watchdog-timeout"])
    package static let schedulingPolicy = Setting(
        "scheduling-policy", .scheduling, .choice(["fcfs", "priority", "fair"]), default: .text("fcfs"),
        "Who goes first; fair is by API key", aliases: ["schedule-policy"])
    package static let longPrefillTokenThreshold = Setting(
        "long-prefill-token-threshold", .scheduling, .integer(0...(1 << 20)), default: .integer(0),
        "Most tokens of a prompt per step")
    package static let numSpeculativeTokens = Setting(
        "num-speculative-tokens", .scheduling, .integer(0...16), default: .integer(0),
        "Tokens guessed ahead; 0 is off")

    // MARK: HTTP

    package static let host = Setting(
        "host", .http, .text, default: .text("127.0.0.1"), "Address to listen on", aliases: ["hostname", "bind"])
    package static let port = Setting(
        "port", .http, .integer(0...65535), default: .integer(8000), "Port to listen on; 0 takes a free one")
    package static let uds = Setting(
        "uds", .http, .path, "Unix socket to listen on instead of host and port", aliases: ["unix-socket"])
    package static let udsMode = Setting(
        "uds-mode", .http, .choice(["0600", "0660"]), default: .text("0600"), "Permissions of the unix socket")
    package static let apiKey = Setting(
        "api-key", .http, .texts, "Keys of which clients need one; without commas",
        aliases: ["api-keys"], isSecret: true)
    package static let apiKeyFile = Setting(
        "api-key-file", .http, .path, "File of keys, one a line, or sha256: and digest")
    package static let guardMetrics = Setting(
        "guard-metrics", .http, .boolean, default: .boolean(false), "Ask for a key at /metrics too")
    package static let enablePromptTokensDetails = Setting(
        "enable-prompt-tokens-details", .http, .boolean, default: .boolean(false),
        "Tell in usage how many tokens were cached")
    package static let allowUnauthenticated = Setting(
        "allow-unauthenticated", .http, .boolean, default: .boolean(false),
        "Listen beyond this machine keyless")
    package static let allowedHosts = Setting(
        "allowed-hosts", .http, .texts, "Host names to answer to, such as *.example.org",
        aliases: ["trusted-hosts"])
    package static let sslCertfile = Setting(
        "ssl-certfile", .http, .path, "PEM certificates, the server's first: HTTPS",
        aliases: ["ssl-cert-file", "tls-cert", "tls-cert-path", "ssl-cert"])
    package static let sslKeyfile = Setting(
        "ssl-keyfile", .http, .path, "PEM private key (default: in ssl-certfile)",
        aliases: ["ssl-key-file", "tls-key", "tls-key-path", "ssl-key"])
    package static let sslCACerts = Setting(
        "ssl-ca-certs", .http, .path, "PEM authorities of clients' certificates", aliases: ["tls-ca"])
    package static let sslCertReqs = Setting(
        "ssl-cert-reqs", .http, .choice(["required", "optional", "none", "2", "1", "0"]), default: .text("required"),
        "Whether clients must show theirs")
    package static let enableSSLRefresh = Setting(
        "enable-ssl-refresh", .http, .boolean, default: .boolean(false),
        "Take changed files without SIGHUP")
    package static let maxRequestBodyBytes = Setting(
        "max-request-body-bytes", .http, .bytes(1024...(1 << 30)), default: .integer(2 << 20),
        "Largest request body", aliases: ["max-body-bytes", "max-body-size", "h11-max-incomplete-event-size"])
    package static let maxConnections = Setting(
        "max-connections", .http, .integer(1...65536), default: .integer(4096),
        "Most open connections; more wait")
    package static let requestHeaderTimeout = Setting(
        "request-header-timeout", .http, .duration(100...3_600_000), default: .integer(10_000),
        "Time a request's head may take")
    package static let requestBodyTimeout = Setting(
        "request-body-timeout", .http, .duration(100...3_600_000), default: .integer(30_000),
        "Time a request's body may take")
    package static let writeTimeout = Setting(
        "write-timeout", .http, .duration(100...3_600_000), default: .integer(30_000),
        "Give up a client that reads nothing")
    package static let sseKeepAliveInterval = Setting(
        "sse-keep-alive-interval", .http, .duration(0...3_600_000), default: .integer(15_000),
        "Comment on a silent stream; 0 is never")
    package static let allowedOrigins = Setting(
        "allowed-origins", .http, .texts, "Origins of web pages that may use the server (CORS)",
        aliases: ["cors-allow-origins", "cors-origins"])
    package static let allowedMethods = Setting(
        "allowed-methods", .http, .texts, default: .texts(["GET", "POST"]), "Methods that such pages may use")
    package static let allowedHeaders = Setting(
        "allowed-headers", .http, .texts,
        default: .texts(["Authorization", "Content-Type", "X-API-Key", "X-Request-Id"]),
        "Headers that such pages may send")
    package static let allowCredentials = Setting(
        "allow-credentials", .http, .boolean, default: .boolean(false), "Let such pages send cookies")
    package static let timeoutKeepAlive = Setting(
        "timeout-keep-alive", .http, .duration(1000...3_600_000), default: .integer(75_000),
        "Close a connection idle for so long", aliases: ["http-timeout-keep-alive", "keep-alive-timeout"])
    package static let shutdownTimeout = Setting(
        "shutdown-timeout", .http, .duration(0...3_600_000), default: .integer(30_000),
        "Time running requests get after SIGTERM", aliases: ["drain-timeout"])

    // MARK: Logging

    package static let logLevel = Setting(
        "log-level", .logging, .choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]),
        default: .text("info"), "Least important line to write", aliases: ["uvicorn-log-level", "logging-level"])
    package static let logFormat = Setting(
        "log-format", .logging, .choice(["text", "json"]), default: .text("text"),
        "For people, or one JSON object a line")
    package static let profileDir = Setting(
        "profile-dir", .logging, .path, "Folder for the traces of /start_profile",
        aliases: ["profiler-dir", "torch-profiler-dir"])
    package static let disableAccessLogForEndpoints = Setting(
        "disable-access-log-for-endpoints", .logging, .texts, "Paths of which no request is logged")
    package static let disableLogStats = Setting(
        "disable-log-stats", .logging, .boolean, default: .boolean(false), "No throughput line every 10 s")

    // MARK: Metrics

    package static let ttftBuckets = Setting(
        "ttft-buckets", .metrics, .bounds, "Bucket bounds of the time to the first token",
        aliases: ["custom-histogram-buckets", "bucket-time-to-first-token"])
    package static let itlBuckets = Setting(
        "itl-buckets", .metrics, .bounds, "Bucket bounds of the times between tokens",
        aliases: ["bucket-inter-token-latency"])
    package static let e2eBuckets = Setting(
        "e2e-buckets", .metrics, .bounds, "Bucket bounds of a request's time and phases",
        aliases: ["bucket-e2e-request-latency"])

    /// Every setting, in the order of the help text.
    package static let all: [Setting] = [
        config, model, servedModelName, toolCallParser, pooling, home, maxModelLen,
        enableLoRA, loraModules, maxLoRAs, maxLoRARank, loraDir,
        device, kernels, cudaKernels, dtype, cpuISA, threads, tensorParallelSize, distributedTimeout,
        collectives,
        blockSize, enablePrefixCaching, kvCacheMemoryBytes, kvCacheDtype, gpuMemoryUtilization, numGPUBlocksOverride,
        maxNumSeqs, maxNumBatchedTokens, maxNumQueuedReqs, maxNumQueuedTokens, ttftSLO, tenantQueueShare,
        engineStallTimeout, schedulingPolicy,
        longPrefillTokenThreshold, numSpeculativeTokens,
        host, port, uds, udsMode, apiKey, apiKeyFile, guardMetrics, allowUnauthenticated, allowedHosts,
        sslCertfile, sslKeyfile, sslCACerts, sslCertReqs, enableSSLRefresh,
        maxConnections, maxRequestBodyBytes, requestHeaderTimeout, requestBodyTimeout, writeTimeout,
        sseKeepAliveInterval, enablePromptTokensDetails, timeoutKeepAlive, shutdownTimeout,
        allowedOrigins, allowedMethods, allowedHeaders, allowCredentials,
        logLevel, logFormat, disableLogStats, disableAccessLogForEndpoints, profileDir,
        ttftBuckets, itlBuckets, e2eBuckets,
    ]

    package static func named(_ name: String) -> Setting? {
        all.first { $0.name == name }
    }
}
