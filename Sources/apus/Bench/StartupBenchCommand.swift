// `apus bench startup`: how long the server takes from its start to serving and to a first token, and what memory it
// then holds. The binary is started as an operator starts it; results have the names of `vllm bench startup`.

import ArgumentParser
import Execution
import Foundation
import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

struct StartupBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "startup", abstract: "Measure how long the server takes to start, and its memory.",
        discussion: """
            Before a cold start the system is asked to forget the model's file; where it keeps it, because another \
            process uses it, a cold start is a warm one. Options for the server follow after --.
            """)

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String
    @Argument(parsing: .postTerminator, help: "Options of `apus serve`.") var serverOptions: [String] = []
    @Option(help: "Cold starts to measure.") var numItersCold = 3
    @Option(help: "Starts before the warm ones.") var numItersWarmup = 1
    @Option(help: "Warm starts to measure.") var numItersWarm = 3
    @Option(help: "The server's binary. (default: this one)") var binary: String?
    @OptionGroup(title: "Results") var results: BatchResultOptions

    func validate() throws {
        guard [numItersCold, numItersWarmup, numItersWarm].allSatisfy({ (0...1000).contains($0) }),
            numItersCold + numItersWarm > 0
        else { throw ValidationError("The numbers of starts must be from 0 to 1000, with at least one to measure.") }
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let executable =
            binary ?? Bundle.main.executablePath ?? CommandLine.arguments.first ?? "apus"
        // A model of the catalog is fetched here and not in the time.
        let path = try ModelLocator.locate(model, home: nil, environment: environment).path
        func start(_ label: String) async throws -> ServerStart {
            BenchOutput.report(label, isProgress: true)
            return try await ServerStart.measure(
                executable: executable, model: path, arguments: serverOptions, environment: environment)
        }
        var cold: [ServerStart] = []
        for index in 0..<numItersCold {
            Self.forget(path)
            cold.append(try await start("cold start \(index + 1) of \(numItersCold)"))
        }
        for _ in 0..<numItersWarmup { _ = try await start("warming up") }
        var warm: [ServerStart] = []
        for index in 0..<numItersWarm { warm.append(try await start("warm start \(index + 1) of \(numItersWarm)")) }
        BenchOutput.report("", isProgress: true)
        let phases = [("cold", cold), ("warm", warm)].filter { !$0.1.isEmpty }
        try results.write(
            .object([("model_id", .string(path))] + phases.flatMap { Self.members($0.0, $0.1) }),
            text: Self.text(phases))
    }

    /// Asks the system to drop what it keeps of a file.
    private static func forget(_ path: String) {
        #if os(Linux)
            guard let file = FileHandle(forReadingAtPath: path) else { return }
            _ = posix_fadvise(file.fileDescriptor, 0, 0, POSIX_FADV_DONTNEED)
            file.closeFile()
        #endif
    }

    private static let figures: [(name: String, label: String, value: @Sendable (ServerStart) -> Double)] = [
        ("startup", "to serving, s", { $0.ready.seconds }),
        ("first_token", "to a first token, s", { $0.firstToken.seconds }),
    ]

    private static func members(_ phase: String, _ starts: [ServerStart]) -> [(String, JSONText)] {
        var members: [(String, JSONText)] = []
        for (name, _, value) in figures {
            let times = Distribution(starts.map(value))
            members += [
                ("avg_\(phase)_\(name)_time", .decimal(times.mean, places: 4)),
                ("\(phase)_\(name)_times", .array(starts.map { .decimal(value($0), places: 4) })),
                (
                    "\(phase)_\(name)_percentiles",
                    .object(
                        [10, 25, 50, 75, 90, 99].map {
                            (String($0), .decimal(times.percentile(Double($0)), places: 4))
                        })
                ),
            ]
        }
        members.append(
            (
                "\(phase)_resident_bytes",
                .array(starts.map { $0.memory.map { .integer($0.resident) } ?? .null })
            ))
        members.append(
            (
                "\(phase)_peak_resident_bytes",
                .array(starts.map { $0.memory.map { .integer($0.peak) } ?? .null })
            ))
        return members
    }

    private static func text(_ phases: [(String, [ServerStart])]) -> String {
        func row(_ label: String, _ values: [String]) -> String {
            label.padded(to: 28) + values.map { $0.indented(to: 10) }.joined()
        }
        var lines = [row("", ["median", "least", "most"])]
        for (phase, starts) in phases {
            for (_, label, value) in figures {
                let times = Distribution(starts.map(value))
                let values = [times.median, times.percentile(0), times.percentile(100)]
                lines.append(row("\(phase) start \(label)", values.map { Decimals.format($0, places: 3) }))
            }
            let memory = Distribution(starts.compactMap { $0.memory.map { Double($0.resident) / 0x1p20 } })
            let values = [memory.median, memory.percentile(0), memory.percentile(100)]
            lines.append(row("\(phase) start, resident MiB", values.map { Decimals.format($0, places: 0) }))
        }
        return lines.joined(separator: "\n")
    }
}

/// One start of a server.
struct ServerStart: Sendable {
    /// From the start of the process to when it listens, and to the first token of a first request.
    let ready: Duration
    let firstToken: Duration
    /// After that request.
    let memory: (resident: Int, peak: Int)?

    static func measure(
        executable: String, model: String, arguments: [String], environment: [String: String]
    ) async throws -> ServerStart {
        let start = ContinuousClock.now
        let server = try ServerProcess(
            executable: executable, model: model, arguments: arguments, environment: environment)
        defer { server.stop() }
        let (address, model) = try await server.waitUntilReady()
        let ready = start.duration(to: .now)
        let target = try LoadTarget(url: address)
        let format = LoadRequestFormat(backend: .openai, model: model)
        let body = format.body(LoadItem(prompt: .tokens([500, 501, 502]), promptTokens: 3, outputTokens: 1))
        let asked = start.duration(to: .now)
        let outcome = try await Load.run(
            LoadPlan(
                target: target, endpoint: format.backend.endpoint, bodies: [(body: body, promptTokens: 3)],
                arrivals: [0], maxConcurrency: nil, timeout: .seconds(600)))
        let record = outcome.records[0]
        if let error = record.error { throw LoadError.didNotStart(command: executable, reason: error) }
        return ServerStart(
            ready: ready, firstToken: asked + .seconds(record.start + (record.timeToFirstToken ?? 0)),
            memory: server.memory)
    }
}
