// `apus bench serve` without a network: percentiles, arrivals, events however their bytes are cut, prompts, and the
// members of the result; and once as a whole, against the real binary with the real model.

import ArgumentParser
import Foundation
import JSON
import NIOCore
import Testing
import apus

// MARK: Events

private let completionEvents = [
    #"data: {"id":"c","object":"text_completion","model":"m","choices":[{"index":0,"text":"Hi","logprobs":null,"#
        + #""finish_reason":null}],"usage":null}"#,
    #"data: {"choices":[{"index":0,"text":"say \"text\":\"\" and \\","finish_reason":null}]}"#,
    #"data: {"choices":[{"index":0,"text":"","finish_reason":null}]}"#,
    #"data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}"#,
    #"data: {"choices":[],"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3}}"#,
    "data: [DONE]",
]

private func events(_ chunks: [[UInt8]]) -> [EventFacts] {
    var reader = EventStreamReader()
    var found: [EventFacts] = []
    for chunk in chunks {
        let isReadable = reader.read(ByteBuffer(bytes: chunk)) { facts, _ in found.append(facts) }
        #expect(isReadable)
    }
    return found
}

@Test(arguments: ["\n\n", "\r\n\r\n"])
func `an event is read the same wherever its bytes are cut`(ending: String) {
    let bytes = Array((": ping" + ending + completionEvents.joined(separator: ending) + ending).utf8)
    let whole = events([bytes])
    #expect(whole.map(\.isOutput) == [true, true, true, false, false, false])
    #expect(whole.map(\.hasUsage) == [false, false, false, false, true, false])
    #expect(whole.map(\.isDone) == [false, false, false, false, false, true])
    for cut in 1..<bytes.count {
        #expect(events([Array(bytes[..<cut]), Array(bytes[cut...])]) == whole, "cut at \(cut)")
    }
    #expect(events(bytes.map { [$0] }) == whole)
}

@Test func `a chat's first event has no text, and an event that ends one is no token`() {
    let chat = events([
        Array(
            #"""
            data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}
            data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}
            data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}
            data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

            """#.utf8)
    ])
    #expect(chat.map(\.isOutput) == [false, true, true, false])
    #expect(chat.map(\.hasFinishReason) == [false, false, false, true])
}

@Test(arguments: [
    #"data: {"error":{"message":"no","code":500}}"#, #"error: {"message":"no","code":500}"#,
    #"data:{"error":"no"}"#,
])
func `an error in a stream is seen whichever way a server writes it`(line: String) {
    #expect(events([Array((line + "\n\n").utf8)]).map(\.hasError) == [true])
}

@Test(arguments: ["{", "{\"", "{\"text", "{\"text\":", "{\"text\":\"", "{\"text\":\"\\", "\"", ""])
func `an event that is cut off in itself is read without a trap`(payload: String) {
    #expect(events([Array("data: \(payload)\n".utf8)]).count == 1)
}

// MARK: Arrivals

@Test func `arrivals are of the seed, keep the rate exactly, and are as bursty as asked`() {
    var schedule = ArrivalSchedule(rate: 20)
    for burstiness in [0.25, 1, 4] {
        schedule.burstiness = burstiness
        let offsets = schedule.offsets(count: 4001, seed: 5)
        #expect(offsets == schedule.offsets(count: 4001, seed: 5))
        #expect(offsets != schedule.offsets(count: 4001, seed: 6))
        #expect(abs(offsets[4000] - 200) < 1e-6)
        let gaps = Distribution(zip(offsets, offsets.dropFirst()).map { $1 - $0 })
        // A gamma distribution's deviation is its mean over the root of its shape.
        let variation = gaps.standardDeviation / gaps.mean
        #expect(abs(variation * burstiness.squareRoot() - 1) < 0.1, "burstiness \(burstiness): \(variation)")
    }
    #expect(ArrivalSchedule().offsets(count: 3, seed: 1) == [0, 0, 0])
}

@Test(arguments: ArrivalSchedule.RampUp.allCases)
func `a rate that ramps up goes from the first one to the last`(strategy: ArrivalSchedule.RampUp) {
    var schedule = ArrivalSchedule()
    // So even that the gaps are their means.
    schedule.burstiness = 1e9
    schedule.ramp = (strategy: strategy, first: 2, last: 50)
    let offsets = schedule.offsets(count: 101, seed: 1)
    let rates = zip(offsets, offsets.dropFirst()).map { 1 / ($1 - $0) }
    #expect(abs(rates[0] - 2) < 0.6)
    #expect(abs(rates[99] - 50) < 0.1)
    #expect(zip(rates, rates.dropFirst()).allSatisfy { $0 < $1 * 1.001 })
    #expect((rates[49] > 20) == (strategy == .linear))
}

// MARK: Prompts

@Test func `random prompts have exact lengths, share only what is asked for, and come from the seed`() throws {
    let dataset = LoadDataset.random(prefix: 4, input: 16, output: 8, rangeRatio: 0.5)
    let items = dataset.items(count: 50, seed: 3, identifiers: 1000..<32000, isText: false)
    #expect(items == dataset.items(count: 50, seed: 3, identifiers: 1000..<32000, isText: false))
    let prompts = try items.map { item -> [Int] in
        guard case .tokens(let tokens) = item.prompt else { throw LoadError.invalidURL("not tokens") }
        #expect(item.promptTokens == tokens.count)
        return tokens
    }
    #expect(Set(prompts.map { $0.prefix(4) }).count == 1)
    #expect(Set(prompts.map { $0[4] }).count > 40)
    #expect(prompts.allSatisfy { (12...28).contains($0.count) && $0.allSatisfy((1000..<32000).contains) })
    #expect(Set(prompts.map(\.count)).count > 5)
    #expect(items.allSatisfy { (4...12).contains($0.outputTokens) })
}

@Test func `prompts with shared prefixes have as many prefixes as asked, evenly`() throws {
    let dataset = LoadDataset.prefixRepetition(prefix: 8, suffix: 4, prefixes: 3, output: 5)
    let items = dataset.items(count: 12, seed: 1, identifiers: 10..<20000, isText: false)
    var counts: [[Int]: Int] = [:]
    for item in items {
        guard case .tokens(let tokens) = item.prompt else { continue }
        #expect(tokens.count == 12)
        counts[Array(tokens.prefix(8)), default: 0] += 1
    }
    #expect(counts.values.sorted() == [4, 4, 4])
}

@Test func `a file's lines are read, and a line that is not usable is named`() throws {
    let lines = try LoadDataset.lines(
        of: """
            {"prompt": "one", "output_tokens": 5}

            {"prompt": [1, 2, 3]}
            {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 7}
            """, path: "f.jsonl")
    let items = LoadDataset.custom(lines: lines, output: 9)
        .items(count: 4, seed: 0, identifiers: 0..<1, isText: false)
    #expect(items.map(\.outputTokens) == [5, 9, 7, 5])
    #expect(items[0].prompt == .text("one"))
    #expect(items[1].prompt == .tokens([1, 2, 3]))
    for (text, line) in [("{}", 1), ("{\"prompt\":\"a\"}\nnot", 2), ("[1]", 1), ("", 1), ("{\"prompt\":[\"a\"]}", 1)] {
        #expect {
            try LoadDataset.lines(of: text, path: "f.jsonl")
        } throws: { error in
            guard case LoadError.unusableDataset(_, line, _) = error else { return false }
            return true
        }
    }
}

@Test func `a request's body asks for a stream with usage, and what the operator adds replaces`() throws {
    var format = LoadRequestFormat(backend: .openai, model: "m\"1")
    format.ignoresEndOfSequence = true
    format.members = [(name: "temperature", value: .decimal(0, places: 1)), (name: "max_tokens", value: .integer(3))]
    let item = LoadItem(prompt: .tokens([5, 6]), promptTokens: 2, outputTokens: 8)
    let body = try JSONParser.parse(Array(format.body(item).readableBytesView))
    let expected = """
        {"model":"m\\"1","prompt":[5,6],"stream":true,"stream_options":{"include_usage":true},"ignore_eos":true,\
        "temperature":0.0,"max_tokens":3}
        """
    #expect(try body == JSONParser.parse(Array(expected.utf8)))
    format.backend = .openaiChat
    let chat = String(buffer: format.body(LoadItem(prompt: .text("hi"), promptTokens: nil, outputTokens: 8)))
    #expect(chat.contains(#""messages":[{"role":"user","content":"hi"}]"#))
    #expect(!chat.contains("\"prompt\""))
}

@Test func `an address is taken apart, and one that is none is refused`() throws {
    let target = try LoadTarget(url: "https://example.com/api/")
    #expect(target.host == "example.com" && target.port == 443 && target.isSecure && target.pathPrefix == "/api")
    #expect(try LoadTarget(url: "http://[::1]:81").description == "http://[::1]:81")
    for text in ["", "localhost:8000", "ftp://a", "http://"] {
        #expect(throws: LoadError.invalidURL(text)) { try LoadTarget(url: text) }
    }
}

// MARK: Results

private func record(start: Double, first: Double, gaps: [Double], error: String? = nil) -> LoadRecord {
    var record = LoadRecord()
    record.start = start
    record.timeToFirstToken = first
    record.gaps = gaps
    record.promptTokens = 10
    record.outputTokens = gaps.count + 1
    record.hasUsage = true
    record.error = error
    return record
}

@Test func `percentiles are those of numpy`() {
    let values = Distribution([4, 1, 3, 2, 10])
    #expect(values.percentile(0) == 1 && values.median == 3 && values.percentile(100) == 10)
    #expect(abs(values.percentile(90) - 7.6) < 1e-12)
    #expect(abs(values.percentile(99) - 9.76) < 1e-12)
    #expect(values.mean == 4)
    #expect(abs(values.standardDeviation - 10.0.squareRoot()) < 1e-12)
    #expect(Distribution([]).percentile(50) == 0 && Distribution([7]).percentile(99) == 7)
}

@Test func `goodput counts the requests that kept every limit, and errors are counted by name`() throws {
    let outcome = LoadOutcome(
        records: [
            record(start: 0, first: 0.1, gaps: [0.02, 0.02]), record(start: 0, first: 0.3, gaps: [0.02, 0.02]),
            record(start: 0.5, first: 0.1, gaps: [0.2, 0.02]),
            record(start: 1, first: 0, gaps: [], error: "HTTP 429: full"),
            record(start: 1, first: 0, gaps: [], error: "HTTP 429: full"),
            record(start: 1, first: 0, gaps: [], error: "cannot connect: refused"),
        ], duration: 2, maxConcurrent: 3)
    let objective = try #require(LoadObjective(["ttft:200", "tpot:50"]))
    let measurement = LoadMeasurement(outcome, objective: objective)
    #expect(measurement.good == 1)
    #expect(measurement.completed.count == 3 && measurement.failed == 3)
    #expect(measurement.errors.map(\.count) == [2, 1])
    #expect(measurement.errors.first?.sentence == "HTTP 429: full")
    #expect(measurement.outputTokens == 9 && measurement.inputTokens == 30)
    #expect(measurement.rate(measurement.outputTokens) == 4.5)
    #expect(measurement.maxOutputTokensPerSecond == 9)
    for words in [["ttft"], ["itl:5"], ["ttft:-1"], ["ttft:a"], ["p99:3"], ["ttft:1:2"]] {
        #expect(LoadObjective(words) == nil)
    }
}

@Test func `the result has the members that vLLM's has`() throws {
    let outcome = LoadOutcome(records: [record(start: 0, first: 0.1, gaps: [0.02])], duration: 1, maxConcurrent: 1)
    let report = LoadReport(
        measurement: LoadMeasurement(outcome), settings: [("date", .string("now"))],
        metrics: [.firstToken, .perOutputToken, .interToken, .endToEnd], percentiles: [50, 99.9], clientSeconds: 0.1)
    let decoded = try JSONSerialization.jsonObject(with: Data(report.json(isDetailed: true).line.utf8))
    let members = try #require(decoded as? [String: Any])
    for name in [
        "date", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
        "request_goodput", "output_throughput", "total_token_throughput", "max_output_tokens_per_s",
        "max_concurrent_requests", "mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "p50_ttft_ms", "p99.9_ttft_ms",
        "median_tpot_ms", "p99.9_itl_ms", "mean_e2el_ms", "input_lens", "output_lens", "ttfts", "itls", "latencies",
        "start_times", "errors",
    ] {
        #expect(members[name] != nil, "\(name)")
    }
    #expect(members["median_ttft_ms"] as? Double == 100)
    #expect(members["request_goodput"] is NSNull)
    #expect(members["median_e2el_ms"] as? Double == 120)
    #expect(report.text.contains("time to first token"))
}

@Test(arguments: [
    ["--request-rate", "0"], ["--request-rate", "fast"], ["--burstiness", "0"], ["--max-concurrency", "0"],
    ["--ramp-up-strategy", "linear"], ["--goodput", "itl:5"], ["--percentile-metrics", "ttft,x"],
    ["--metric-percentiles", "101"], ["--dataset-name", "custom"], ["--extra-body", "[]"], ["--header", "x"],
    ["--random-id-range", "5:5"], ["--num-prompts", "0"], ["--metadata", "x"], ["--port", "0"],
    ["--random-range-ratio", "2"],
])
func `serve refuses what it cannot do`(arguments: [String]) {
    #expect(throws: (any Error).self) { try ApusCommand.parseAsRoot(["bench", "serve"] + arguments) }
}

@Test func `serve takes a command line of vLLM's`() throws {
    _ = try ApusCommand.parseAsRoot([
        "bench", "serve", "--backend", "vllm", "--base-url", "http://127.0.0.1:8000", "--model", "m", "--dataset-name",
        "prefix_repetition", "--prefix-repetition-prefix-len", "512", "--num-prompts", "16", "--request-rate", "inf",
        "--max-concurrency", "8", "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99",
        "--goodput", "ttft:200", "tpot:50", "--ignore-eos", "--seed", "1", "--save-result", "--num-warmups", "2",
        "--ramp-up-strategy", "linear", "--ramp-up-start-rps", "1", "--ramp-up-end-rps", "9",
    ])
}
