// The exposition: every series is there from the start, in the format that scrapers parse, and none is a client's.

import Execution
import Scheduling
import ServiceLifecycle
import Serving
import Testing

@Suite struct MetricsTests {
    private static let histograms = [
        "time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
        "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
        "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens",
        "request_generation_tokens", "request_params_n", "request_params_max_tokens", "iteration_tokens_total",
    ]
    private static let others = [
        "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
        "generation_tokens_total", "prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total",
    ]

    @Test func `every series exists at zero from the first scrape`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.get("/metrics")
            #expect(answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
            let lines = Set(answer.body.split(separator: "\n").map(String.init))
            let labels = #"{model_name="tiny",engine="0"}"#
            for name in Self.others { #expect(lines.contains("vllm:\(name)\(labels) 0.0"), "\(name)") }
            for name in Self.histograms {
                #expect(lines.contains("vllm:\(name)_count\(labels) 0.0"), "\(name)")
                #expect(lines.contains("vllm:\(name)_sum\(labels) 0.0"), "\(name)")
                #expect(lines.contains(#"vllm:\#(name)_bucket{model_name="tiny",engine="0",le="+Inf"} 0.0"#), "\(name)")
            }
            for reason in ["stop", "length", "abort", "error", "repetition"] {
                #expect(
                    lines.contains(
                        #"vllm:request_success_total{model_name="tiny",engine="0",finished_reason="\#(reason)"} 0.0"#))
            }
            #expect(
                lines.contains(
                    #"vllm:cache_config_info{model_name="tiny",engine="0",block_size="16",num_gpu_blocks="64","#
                        + #"cache_dtype="bfloat16",gpu_memory_utilization="0.9",enable_prefix_caching="True"} 1.0"#))
        }
    }

    @Test func `every sample follows the type of its family`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            var types: [Substring: Substring] = [:]
            for line in try await server.get("/metrics").body.split(separator: "\n") {
                if line.hasPrefix("# TYPE ") {
                    let words = line.split(separator: " ")
                    #expect(types.updateValue(words[3], forKey: words[2]) == nil, "\(line)")
                } else if !line.hasPrefix("#") {
                    let match = try #require(
                        line.wholeMatch(of: /([a-z_:A-Z0-9]+)(?:\{([a-z_]+="[^"]*",?)*\})? ([0-9.e+-]+)/), "\(line)")
                    let name = match.1
                    let family = ["_bucket", "_sum", "_count", ""].lazy
                        .filter { name.hasSuffix($0) }.map { name.dropLast($0.count) }.first { types[$0] != nil }
                    #expect(family != nil, "\(line)")
                }
            }
        }
    }

    @Test func `requests are counted under labels that no client chooses`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            func series(_ name: String) async throws -> Int {
                try await server.get("/metrics").body.split(separator: "\n").count { $0.hasPrefix(name) }
            }
            let before = try await series("http_requests_total")
            let durations = try await series("http_request_duration_seconds_count")
            for index in 0..<20 {
                _ = try await server.get("/nothing/\(index)")
                _ = try await server.post("/v1/completions", #"{"model":"m\#(index)","prompt":"x"}"#)
                _ = try await server.get("/v1/models/m\(index)")
            }
            _ = try await server.post("/v1/completions", #"{"prompt":"x","n":2,"max_tokens":3}"#)
            let label = #"handler="/v1/completions",method="POST",status="#
            #expect(try await server.metric("http_requests_total", label + #""4xx""#) == 20)
            #expect(try await server.metric("http_requests_total", label + #""2xx""#) == 1)
            #expect(try await server.metric("http_requests_total", #"handler="none""#) == 20)
            #expect(try await server.metric("vllm:request_params_n_sum") == 2)
            #expect(try await server.metric("vllm:request_params_max_tokens_sum") == 3)
            // Two choices of three tokens each are one prompt.
            #expect(try await server.metric("vllm:request_max_num_generation_tokens_sum") == 3)
            #expect(try await server.metric("vllm:request_max_num_generation_tokens_count") == 1)
            // Two handlers are new: the model's card, and all that is nothing.
            #expect(try await series("http_requests_total") == before + 2)
            #expect(try await series("http_request_duration_seconds_count") == durations + 2)
            #expect(try await server.metric("http_request_duration_seconds_count", #"handler="/v1/completions""#) == 21)
        }
    }

    @Test func `the process and the server have figures of their own`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let lines = try await server.get("/metrics").body.split(separator: "\n")
            func value(_ name: String) -> Double {
                lines.first { $0.hasPrefix(name + " ") || $0.hasPrefix(name + "{") }
                    .flatMap { $0.split(separator: " ").last }.flatMap { Double($0) } ?? -1
            }
            #expect(value("process_resident_memory_bytes") > 1e6)
            #expect(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"))
            #expect(value("process_cpu_seconds_total") >= 0)
            #expect(value("process_start_time_seconds") > 1.6e9)
            #expect(value("process_open_fds") > 3)
            #expect(value("process_max_fds") > value("process_open_fds"))
            #expect(value("apus:kv_blocks") == 64)
            #expect(value("apus:ready") == 1)
            #expect(value("apus:http_connections") >= 1)
            #expect(value("vllm:prompt_tokens_cached_total") == 0)
        }
    }
}
