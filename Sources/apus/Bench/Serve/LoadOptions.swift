// The options of `apus bench serve`, in vLLM's names.

import ArgumentParser
import Foundation
import JSON

extension LoadBackend: ExpressibleByArgument {}
extension ArrivalSchedule.RampUp: ExpressibleByArgument {}

/// Where the server is.
struct LoadServerOptions: ParsableArguments {
    @Option(help: "The kind of endpoint: completions (openai, vllm) or chats (openai-chat).")
    var backend = LoadBackend.openai
    @Option(help: "The server's address, as http://HOST:PORT; in place of --host and --port.") var baseUrl: String?
    @Option(help: "The server's host.") var host = "127.0.0.1"
    @Option(help: "The server's port.") var port = 8000
    @Option(help: "The path that is asked; the usual one of the backend when absent.") var endpoint: String?
    @Option(help: "The model that is asked for; the server's first one when absent.") var model: String?
    @Option(help: "Sent as a bearer token; other users of this machine can read it, unlike OPENAI_API_KEY.")
    var apiKey: String?
    @Option(parsing: .upToNextOption, help: "Header fields to send besides, as KEY=VALUE.") var header: [String] = []
    @Flag(help: "Believe the server's certificate without a check.") var insecure = false
    @Option(help: "Seconds to wait for the server to answer before the first request.") var readyCheckTimeoutSec = 0
    @Option(help: "Seconds that one request may take.") var requestTimeout = 600

    func validate() throws {
        guard header.allSatisfy({ $0.contains("=") }) else {
            throw ValidationError("--header takes KEY=VALUE, as --header x-team=blue.")
        }
        guard (1...65535).contains(port) else {
            throw ValidationError("--port is \(port) but must be from 1 to 65535.")
        }
        guard requestTimeout >= 1, readyCheckTimeoutSec >= 0 else {
            throw ValidationError("--request-timeout must be at least 1 and --ready-check-timeout-sec at least 0.")
        }
    }

    func target(environment: [String: String]) throws(LoadError) -> LoadTarget {
        var target = try LoadTarget(url: baseUrl ?? "http://\(host.contains(":") ? "[\(host)]" : host):\(port)")
        target.isUnchecked = insecure
        if let key = apiKey ?? environment["OPENAI_API_KEY"], !key.isEmpty {
            target.headers.append((name: "authorization", value: "Bearer \(key)"))
        }
        for field in header {
            let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            target.headers.append((name: String(parts[0]), value: String(parts[1])))
        }
        return target
    }

    /// Waits until the server answers, and returns the model to ask for.
    func readyModel(_ target: LoadTarget) async throws -> String {
        if let model, readyCheckTimeoutSec == 0 { return model }
        let deadline = ContinuousClock.now + .seconds(readyCheckTimeoutSec)
        while true {
            do {
                let listed = try await LoadProbe.firstModel(target)
                return model ?? listed
            } catch let error as LoadError {
                guard case .unreachable = error, ContinuousClock.now < deadline else { throw error }
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }
}

/// How requests arrive.
struct LoadOptions: ParsableArguments {
    @Option(help: "Requests to send.") var numPrompts = 1000
    @Option(help: ArgumentHelp("Requests a second, or inf for all at once.", valueName: "rate"))
    var requestRate = "inf"
    @Option(help: "Below 1 requests come in bursts, above 1 more evenly than a Poisson process.") var burstiness = 1.0
    @Option(help: "Most requests at once.") var maxConcurrency: Int?
    @Option(help: "How the rate rises from --ramp-up-start-rps to --ramp-up-end-rps.")
    var rampUpStrategy: ArrivalSchedule.RampUp?
    @Option(help: "The rate of the first requests.") var rampUpStartRps: Double?
    @Option(help: "The rate of the last requests.") var rampUpEndRps: Double?
    @Option(help: "Requests to send before the measurement.") var numWarmups = 0
    @Flag(help: "Ask the server to generate past the end of the text, so that lengths are exact.")
    var ignoreEos = false

    func validate() throws {
        guard (1...10_000_000).contains(numPrompts) else {
            throw ValidationError("--num-prompts is \(numPrompts) but must be from 1 to 10000000.")
        }
        guard (0...1_000_000).contains(numWarmups) else {
            throw ValidationError("--num-warmups is \(numWarmups) but must be from 0 to 1000000.")
        }
        guard requestRate == "inf" || (rate ?? 0) > 0 else {
            throw ValidationError("--request-rate is '\(requestRate)' but must be a number above 0, or inf.")
        }
        guard burstiness > 0, burstiness.isFinite else {
            throw ValidationError("--burstiness is \(burstiness) but must be above 0.")
        }
        guard maxConcurrency ?? 1 >= 1 else {
            throw ValidationError("--max-concurrency is \(maxConcurrency ?? 0) but must be at least 1.")
        }
        let given = [rampUpStrategy != nil, rampUpStartRps != nil, rampUpEndRps != nil]
        guard Set(given).count == 1, rampUpStartRps ?? 1 > 0, rampUpEndRps ?? 1 > 0 else {
            throw ValidationError(
                "--ramp-up-strategy, --ramp-up-start-rps and --ramp-up-end-rps go together, with rates above 0.")
        }
        guard rampUpStrategy == nil || rate == nil else {
            throw ValidationError("--request-rate is a fixed rate; leave it out with --ramp-up-strategy.")
        }
    }

    /// Requests a second; nil for all at once.
    var rate: Double? { Double(requestRate).flatMap { $0.isFinite ? $0 : nil } }

    var schedule: ArrivalSchedule {
        var schedule = ArrivalSchedule(rate: rate)
        schedule.burstiness = burstiness
        if let rampUpStrategy, let rampUpStartRps, let rampUpEndRps {
            schedule.ramp = (strategy: rampUpStrategy, first: rampUpStartRps, last: rampUpEndRps)
        }
        return schedule
    }
}

/// Where prompts come from.
struct LoadDatasetOptions: ParsableArguments {
    enum Name: String, CaseIterable, ExpressibleByArgument {
        case random
        case prefixRepetition = "prefix_repetition"
        case custom
    }

    @Option(help: "random, prefix_repetition (prompts that share their beginnings) or custom (a file of JSON lines).")
    var datasetName = Name.random
    @Option(help: "The file of a custom dataset: lines like {\"prompt\": \"…\", \"output_tokens\": 64}.")
    var datasetPath: String?
    @Option(help: "Seed of prompts and arrivals.") var seed: UInt64 = 0
    @Option(help: "Tokens of a random prompt.") var randomInputLen = 1024
    @Option(help: "Tokens to generate for a random prompt.") var randomOutputLen = 128
    @Option(help: "Share by which random lengths differ from those, up to 1.") var randomRangeRatio = 0.0
    @Option(help: "Tokens that all random prompts begin with, besides their own.") var randomPrefixLen = 0
    @Option(
        help: ArgumentHelp(
            "Token ids that random prompts are made of: the first, and the first that is not.", valueName: "first:end"))
    var randomIdRange = "1000:32000"
    @Option(help: "Tokens of a shared beginning.") var prefixRepetitionPrefixLen = 256
    @Option(help: "Tokens after a shared beginning.") var prefixRepetitionSuffixLen = 256
    @Option(help: "How many beginnings there are.") var prefixRepetitionNumPrefixes = 10
    @Option(help: "Tokens to generate after a shared beginning.") var prefixRepetitionOutputLen = 128
    @Option(help: "Tokens to generate for a line of a file that does not say.") var customOutputLen = 256
    @Option(help: "In place of the dataset's own option for the length of prompts.") var inputLen: Int?
    @Option(help: "In place of the dataset's own option for the length of answers.") var outputLen: Int?

    func validate() throws {
        let lengths = [
            randomInputLen, randomOutputLen, prefixRepetitionSuffixLen, prefixRepetitionNumPrefixes,
            prefixRepetitionOutputLen, customOutputLen, inputLen ?? 1, outputLen ?? 1,
        ]
        guard lengths.allSatisfy({ (1...10_000_000).contains($0) }),
            [randomPrefixLen, prefixRepetitionPrefixLen].allSatisfy({ (0...10_000_000).contains($0) })
        else { throw ValidationError("The lengths of prompts and answers must be at least 1, of prefixes at least 0.") }
        guard (0...1).contains(randomRangeRatio) else {
            throw ValidationError("--random-range-ratio is \(randomRangeRatio) but must be from 0 to 1.")
        }
        guard identifiers != nil else {
            throw ValidationError("--random-id-range is '\(randomIdRange)' but must be like 1000:32000.")
        }
        guard (datasetName == .custom) == (datasetPath != nil) else {
            throw ValidationError("--dataset-name custom and --dataset-path go together.")
        }
    }

    private var identifiers: Range<Int>? {
        let bounds = randomIdRange.split(separator: ":").compactMap { Int($0) }
        return bounds.count == 2 && bounds[0] >= 0 && bounds[0] < bounds[1] ? bounds[0]..<bounds[1] : nil
    }

    func items(count: Int, isChat: Bool) throws(LoadError) -> [LoadItem] {
        let dataset: LoadDataset
        switch datasetName {
        case .random:
            dataset = .random(
                prefix: randomPrefixLen, input: inputLen ?? randomInputLen, output: outputLen ?? randomOutputLen,
                rangeRatio: randomRangeRatio)
        case .prefixRepetition:
            dataset = .prefixRepetition(
                prefix: prefixRepetitionPrefixLen, suffix: inputLen ?? prefixRepetitionSuffixLen,
                prefixes: prefixRepetitionNumPrefixes, output: outputLen ?? prefixRepetitionOutputLen)
        case .custom:
            let path = datasetPath ?? ""
            let text: String
            do { text = try String(contentsOfFile: path, encoding: .utf8) } catch {
                throw .unreadableFile(path: path, reason: error.localizedDescription)
            }
            dataset = .custom(lines: try LoadDataset.lines(of: text, path: path), output: outputLen ?? customOutputLen)
        }
        return dataset.items(count: count, seed: seed, identifiers: identifiers ?? 0..<1, isText: isChat)
    }
}

/// Parameters of sampling, sent when given. Without them the most likely token is taken.
struct LoadSamplingOptions: ParsableArguments {
    @Option(help: "0 takes the most likely token.") var temperature = 0.0
    @Option(help: "Sample from the most likely tokens up to this mass.") var topP: Double?
    @Option(help: "Sample from this many of the most likely tokens.") var topK: Int?
    @Option(help: "Sample from tokens at least this likely, relative to the likeliest.") var minP: Double?
    @Option(help: "See the API.") var frequencyPenalty: Double?
    @Option(help: "See the API.") var presencePenalty: Double?
    @Option(help: "See the API.") var repetitionPenalty: Double?
    @Option(help: "A JSON object whose members every request has besides.") var extraBody: String?

    func validate() throws { _ = try members() }

    /// As members of a request's body.
    func members() throws -> [(name: String, value: JSONText)] {
        var members: [(name: String, value: JSONText)] = [("temperature", .decimal(temperature, places: 6))]
        for (name, value) in [
            ("top_p", topP), ("min_p", minP), ("frequency_penalty", frequencyPenalty),
            ("presence_penalty", presencePenalty), ("repetition_penalty", repetitionPenalty),
        ] {
            if let value { members.append((name: name, value: .decimal(value, places: 6))) }
        }
        if let topK { members.append((name: "top_k", value: .integer(topK))) }
        guard let extraBody else { return members }
        do throws(JSONError) {
            guard case .object(let extra) = try JSONParser.parse(Array(extraBody.utf8)) else {
                throw JSONError(offset: 0, reason: "it is not an object")
            }
            let names = Set(extra.map(\.name))
            return members.filter { !names.contains($0.name) } + extra.map { (name: $0.name, value: $0.value.text) }
        } catch {
            throw ValidationError("--extra-body is not a JSON object: \(error.reason).")
        }
    }
}

/// What is written, and where.
struct LoadResultOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Times to report, separated by commas.", valueName: "names"))
    var percentileMetrics = "ttft,tpot,itl,e2el"
    @Option(help: ArgumentHelp("Percentiles to report, separated by commas.", valueName: "numbers"))
    var metricPercentiles = "90,99"
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Milliseconds that a good request does not exceed, as ttft:200 tpot:50 e2el:9000.", valueName: "name:ms"))
    var goodput: [String] = []
    @Flag(help: "Print the result as one JSON object instead of a table.") var json = false
    @Flag(help: "Write the result to a file.") var saveResult = false
    @Flag(help: "Have every request's times in the result.") var saveDetailed = false
    @Flag(help: "Add the result to the file as a further line.") var appendResult = false
    @Option(help: "The folder of the file.") var resultDir: String?
    @Option(help: "The name of the file; one that says what was measured when absent.") var resultFilename: String?
    @Option(help: "What the result is called in itself and in the file's name.") var label: String?
    @Option(parsing: .upToNextOption, help: "Further members of the result, as KEY=VALUE.") var metadata: [String] = []
    /// When the command began.
    let date = Self.timestamp(.now)

    private enum CodingKeys: String, CodingKey {
        case percentileMetrics, metricPercentiles, goodput, json, saveResult, saveDetailed, appendResult, resultDir
        case resultFilename, label, metadata
    }

    func validate() throws {
        let names = LoadMetric.allCases.map(\.rawValue).joined(separator: ", ")
        guard words(percentileMetrics).allSatisfy({ LoadMetric(rawValue: $0) != nil }) else {
            throw ValidationError("--percentile-metrics is '\(percentileMetrics)' but must be some of \(names).")
        }
        guard words(metricPercentiles).allSatisfy({ (0...100).contains(Double($0) ?? -1) }) else {
            throw ValidationError(
                "--metric-percentiles is '\(metricPercentiles)' but must be numbers from 0 to 100, as 50,99.9.")
        }
        guard objective != nil else {
            throw ValidationError("--goodput takes milliseconds for ttft, tpot and e2el, as ttft:200 tpot:50.")
        }
        guard metadata.allSatisfy({ $0.contains("=") }) else {
            throw ValidationError("--metadata takes KEY=VALUE, as --metadata commit=abc123.")
        }
    }

    private func words(_ list: String) -> [String] {
        list.split(separator: ",").map { $0.filter { $0 != " " } }
    }

    var metrics: [LoadMetric] { words(percentileMetrics).compactMap { LoadMetric(rawValue: $0) } }
    var percentiles: [Double] { words(metricPercentiles).compactMap { Double($0) } }
    var objective: LoadObjective? { LoadObjective(goodput.flatMap { $0.split(separator: " ").map { String($0) } }) }

    /// 20261121-162200, in local time.
    private static func timestamp(_ date: Date) -> String {
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX")
        format.dateFormat = "yyyyMMdd-HHmmss"
        return format.string(from: date)
    }

    /// Writes the result to its file, if it has one.
    func save(_ report: LoadReport, defaultName: String) throws(LoadError) {
        guard saveResult || appendResult || resultFilename != nil else { return }
        let folder = URL(filePath: resultDir ?? ".", directoryHint: .isDirectory)
        let file = folder.appending(path: resultFilename ?? defaultName)
        let line = Data((report.json(isDetailed: saveDetailed).line + "\n").utf8)
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            if appendResult, FileManager.default.fileExists(atPath: file.path) {
                let handle = try FileHandle(forWritingTo: file)
                defer { handle.closeFile() }
                try handle.seekToEnd()
                try handle.write(contentsOf: line)
            } else {
                try line.write(to: file)
            }
        } catch {
            throw .unwritableFile(path: file.path, reason: error.localizedDescription)
        }
        BenchOutput.report("The result is in \(file.path).")
    }
}
