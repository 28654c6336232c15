// What operators read: the start-up report, the throughput line, log lines, exit codes. All from fixed inputs.

import ArgumentParser
import Checkpoints
import Execution
import Foundation
import Logging
import Scheduling
import Synchronization
import Tensors
import Testing
import apus

/// A plan as a 135M model has it.
private func plan(
    blockOverride: Int? = 2912, layout: CacheLayout = CacheLayout(layerCount: 1)
) throws -> MemoryPlan {
    var configuration = EngineConfiguration(availableMemoryBytes: 16 << 30, cacheKey: (1, 2))
    configuration.blockCountOverride = blockOverride
    return try MemoryPlan(
        configuration: configuration,
        model: .init(
            contextLength: 8192, weightBytes: 102_400_000, activationBytes: 9_000_000, kvBytesPerToken: 23040,
            layout: layout))
}

private func report(_ memory: MemoryPlan) -> StartupReport {
    StartupReport(
        version: "0.1.0", model: "smollm2-135m-instruct", servedModelNames: ["small", "m"], architecture: "llama",
        parameterCount: 134_515_008, storedTypes: [(name: "Q4_1", bytes: 84_000_000), (name: "F32", bytes: 141_000)],
        device: "CPU, avx2, 2 threads", dtype: "auto", memory: memory, kvCacheType: "bfloat16",
        availableMemoryBytes: 16 << 30,
        contextLength: 8192, maxSequences: 64, tokenBudget: 512, maxQueuedRequests: 1024, maxQueuedTokens: 1 << 20,
        policy: .fcfs, enablePrefixCaching: true, address: "http://127.0.0.1:8000", isReachableByOthers: false,
        keyCount: 0,
        phases: [(name: "open", duration: .milliseconds(41)), (name: "model", duration: .milliseconds(302))],
        given: ["max-num-seqs=64 (apus.yaml:2)", "threads=2 (APUS_THREADS)"])
}

@Test func `the start-up report is as recorded, for people and for machines`() throws {
    let report = report(try plan())
    try Golden("startup-report.txt").expect(report.text)
    try Golden("startup-report.json").expect(report.json.line)
    #expect(try JSONSerialization.jsonObject(with: Data(report.json.line.utf8)) is [String: Any])
}

@Test func `the cache line reads as operators grep it`() throws {
    #expect(
        report(try plan()).cacheLine
            == "KV cache size: 46592 tokens, maximum concurrency for 8192 tokens per request: 5.69x")
}

@Test func `the block line says which layers a block is for`() throws {
    let layout = CacheLayout(layerCount: 18, windowedLayers: Set((0..<18).filter { $0 % 6 != 5 }), window: 512)
    let text = report(try plan(layout: layout)).text
    #expect(text.contains("2912 of 16 tokens in 3 of 18 layers; "))
    #expect(text.contains(" behind the window of 512\n"))
}

@Test func `the report advises where the cache is tight`() throws {
    #expect(report(try plan()).advice.isEmpty)
    #expect(
        report(try plan(blockOverride: 512)).advice == [
            "the KV cache holds 1.0 requests of full length; lower max-model-len to 2048 or raise kv-cache-memory-bytes."
        ])
}

// MARK: Throughput

@Test func `the throughput line has vLLM's words and counts since the last line`() {
    var before = EngineStatistics()
    (before.promptTokens, before.generationTokens, before.prefixQueries, before.prefixHits) = (100, 50, 100, 100)
    var after = before
    (after.promptTokens, after.generationTokens, after.running, after.waiting) = (612, 1290, 3, 2)
    (after.prefixQueries, after.prefixHits, after.kvUsage) = (600, 150, 0.1234)
    #expect(
        ThroughputLine.make(from: before, to: after, elapsed: .seconds(10))
            == "Avg prompt throughput: 51.2 tokens/s, Avg generation throughput: 124.0 tokens/s, Running: 3 reqs, "
            + "Waiting: 2 reqs, KV cache usage: 12.3%, Prefix cache hit rate: 10.0%")
    after.preemptions = 4
    #expect(
        ThroughputLine.make(from: before, to: after, elapsed: .seconds(10))?.hasSuffix(", Preemptions: 4") == true)
}

@Test func `an idle server is silent`() {
    var statistics = EngineStatistics()
    statistics.promptTokens = 1000
    statistics.generationTokens = 1000
    #expect(ThroughputLine.make(from: statistics, to: statistics, elapsed: .seconds(10)) == nil)
    var waiting = statistics
    waiting.waiting = 1
    #expect(ThroughputLine.make(from: statistics, to: waiting, elapsed: .zero) != nil)
}

// MARK: Log lines

/// A sink that keeps its lines, and refuses them while `isBroken`.
private final class Lines: Sendable {
    private let state = Mutex((lines: [String](), isBroken: false))

    struct Broken: Error {}

    var sink: LogSink {
        LogSink { line in
            try self.state.withLock { state in
                guard !state.isBroken else { throw Broken() }
                state.lines.append(line)
            }
        }
    }

    var all: [String] { state.withLock { $0.lines } }

    func setBroken(_ isBroken: Bool) { state.withLock { $0.isBroken = isBroken } }

    func logger(_ format: LogFormat, level: Logger.Level = .info) -> Logger {
        let handler = LineLogHandler(
            level: level, format: format, sink: sink, clock: { Date(timeIntervalSince1970: 1_700_000_000.25) })
        return Logger(label: "test") { _ in handler }
    }
}

@Test func `a log line has time, level, message and metadata, and no control characters`() {
    let lines = Lines()
    let logger = lines.logger(.text)
    logger.info("hello", metadata: ["b": "two words", "a": "1"])
    logger.warning("first\nsecond\u{1B}[31m", metadata: ["k": "x\ny"])
    logger.debug("not written")
    #expect(
        lines.all == [
            "2023-11-14T22:13:20.250Z info    hello a=1 b=\"two words\"\n",
            "2023-11-14T22:13:20.250Z warning first\n",
            "2023-11-14T22:13:20.250Z warning second\\u{1b}[31m k=x\\u{a}y\n",
        ])
}

@Test func `a JSON log line is one object on one line`() throws {
    let lines = Lines()
    lines.logger(.json).error("a \"b\"\n", metadata: ["list": ["x", "y"], "map": ["k": "v"]])
    #expect(
        lines.all == [
            #"{"time":"2023-11-14T22:13:20.250Z","level":"error","message":"a \"b\"\n","list":["x","y"],"map":{"k":"v"}}"#
                + "\n"
        ])
}

@Test func `lines that cannot be written are counted, and told when writing works again`() {
    let lines = Lines()
    let logger = lines.logger(.text)
    lines.setBroken(true)
    logger.info("lost")
    logger.info("lost too")
    lines.setBroken(false)
    logger.info("back")
    #expect(lines.all.first == "(2 log lines could not be written)\n")
    #expect(lines.all.last?.hasSuffix(" back\n") == true)
}

// MARK: Memory

@Test func `available memory is the kernel's figure, or what a container has left`() {
    #expect(MachineMemory.memAvailable(in: "MemTotal: 9 kB\nMemAvailable:   24000 kB\nSwap: 0 kB\n") == 24000 << 10)
    #expect(MachineMemory.memAvailable(in: "MemTotal: 9 kB\n") == nil)
    #expect(MachineMemory.memAvailable(in: "MemAvailable: 9223372036854775807 kB\n") == nil)
    #expect(MachineMemory.groupHeadroom(limit: "max\n", current: "100\n", statistics: nil) == nil)
    #expect(MachineMemory.groupHeadroom(limit: "1000\n", current: "400\n", statistics: nil) == 600)
    #expect(
        MachineMemory.groupHeadroom(limit: "1000", current: "400", statistics: "anon 1\ninactive_file 300\n") == 900)
    #expect(MachineMemory.groupHeadroom(limit: "1000", current: "4000", statistics: nil) == 0)
    #expect(MachineMemory.availableBytes() > 0)
}

@Test func `a quota of cores is rounded up, and no quota is none`() {
    #expect(MachineCores.quota(in: "200000 100000\n") == 2)
    #expect(MachineCores.quota(in: "150000 100000\n") == 2)
    #expect(MachineCores.quota(in: "10000 100000\n") == 1)
    #expect(MachineCores.quota(in: "max 100000\n") == nil)
    #expect(MachineCores.quota(in: "1 0") == nil)
    #expect(MachineCores.quota(in: nil) == nil)
    #expect(MachineCores.available() >= 1)
}

// MARK: Exit codes

@Test func `every kind of error has its exit code`() {
    let lateRank = RankFailure(Shard(rank: 1, of: 2), call: "sum 7", elapsed: .seconds(30), reason: "did not come")
    let table: [(any Error, Int32)] = [
        (ConfigurationError([]), 78), (CheckpointError.missingMetadata(file: "f", key: "k"), 78),
        (StartupError.unknownModel("m", known: []), 78),
        (StartupError.cannotListen(address: "h:1", reason: "r"), 78),
        (EngineError.invalidConfiguration("too small"), 78), (EngineError.deviceFailure("gone"), 74),
        (EngineError.rankFailure(lateRank), 76), (BackendError.rankFailure(lateRank), 76),
        (EngineError.shutdown, 0), (BackendError.unsupported(operation: "o", reason: "r"), 78),
        (BackendError.outOfMemory(byteCount: 1, purpose: "p"), 78),
        (BackendError.deviceFailure(operation: "o", reason: "r"), 74),
        (PullError.wrongDigest(file: "f", actual: "a", expected: "b"), 78), (PullError.cancelled, 130),
        (EngineStall(duration: .seconds(300), running: 2), 75), (CancellationError(), 70),
    ]
    for (error, code) in table { #expect(ExitStatus(error).rawValue == code, "\(error)") }
    #expect(ApusCommand.exitCode(for: ValidationError("usage")).rawValue == ExitStatus.usage.rawValue)
}

@Test(arguments: [
    ["serve", "--no-such-flag"], ["serve", "--prot", "1"], ["fly"], ["generate", "model"], ["serve", "a", "b"],
    ["serve", "--json"],
])
func `a command line that does not parse is a usage error`(arguments: [String]) {
    #expect {
        _ = try ApusCommand.parseAsRoot(arguments)
    } throws: { error in
        ApusCommand.exitCode(for: error).rawValue == ExitStatus.usage.rawValue
    }
}

@Test func `a mistyped flag is answered with the right one`() {
    #expect {
        _ = try ApusCommand.parseAsRoot(["serve", "--max-num-seq", "1"])
    } throws: { error in
        ApusCommand.fullMessage(for: error).contains("Did you mean '--max-num-seqs'?")
    }
}

@Test func `errors of starting say what to do`() {
    #expect(
        StartupError.unknownModel("smol", known: ["smollm2-135m-instruct"]).description
            == "smol is neither a file nor a model of the catalog. Give the path of a GGUF file or of a folder, ORG/NAME "
            + "of the hub, or one of: smollm2-135m-instruct.")
    #expect(
        StartupError.cannotListen(address: "127.0.0.1:80", reason: "permission denied").description
            == "Cannot listen on 127.0.0.1:80: permission denied. Choose another --port, or 0 for a free one.")
    #expect(
        EngineStall(duration: .seconds(300), running: 2).description
            == "The engine completed no step for 300 s with 2 sequences running. The process ends so that a supervisor "
            + "can start it anew.")
}
