// Figures in Prometheus' text format 0.0.4, under the names that dashboards, autoscalers and routers look for.
//
// Every series exists from the first scrape, at 0: what is absent breaks them. A scrape copies the engine's last
// snapshot and never waits for a step, for routers scrape many times a second.

import Execution
import NIOCore
import Scheduling

/// An exposition being written.
struct Metrics {
    private(set) var buffer = ByteBuffer()
    /// `model_name="…",engine="0"`.
    private let engineLabels: String
    private let modelLabel: String
    /// Buckets of tokens end here.
    private let maxModelLength: Double

    /// - Parameters:
    ///   - modelName: the first served name.
    ///   - maxModelLength: of the model; no request has more tokens.
    init(modelName: String, maxModelLength: Int) {
        self.maxModelLength = Double(maxModelLength)
        modelLabel = "model_name=\"\(Self.escaped(modelName))\""
        engineLabels = modelLabel + ",engine=\"0\""
        buffer.reserveCapacity(32 << 10)
    }

    /// Writes everything the engine counts.
    mutating func write(_ statistics: EngineStatistics, model: ServedModel) {
        writeGauges(statistics, model)
        writeCounters(statistics)
        writeHistograms(statistics)
    }

    private mutating func writeGauges(_ statistics: EngineStatistics, _ model: ServedModel) {
        gauge("num_requests_running", "Requests in the running batch.", Double(statistics.running))
        gauge("num_requests_waiting", "Requests that wait to run.", Double(statistics.waiting))
        family("vllm:num_requests_waiting_by_reason", "gauge", "Requests that wait to run, by reason.")
        sample("vllm:num_requests_waiting_by_reason", engineLabels + ",reason=\"capacity\"", Double(statistics.waiting))
        sample("vllm:num_requests_waiting_by_reason", engineLabels + ",reason=\"deferred\"", 0)
        gauge("kv_cache_usage_perc", "Fraction of KV blocks in use; 1 is all of them.", statistics.kvUsage)
        family("vllm:engine_sleep_state", "gauge", "1 for the state the engine is in; this one never sleeps.")
        for state in ["awake", "weights_offloaded", "discard_all"] {
            sample("vllm:engine_sleep_state", engineLabels + ",sleep_state=\"\(state)\"", state == "awake" ? 1 : 0)
        }
        family("vllm:cache_config_info", "gauge", "The KV cache's configuration.")
        sample(
            "vllm:cache_config_info",
            engineLabels + ",block_size=\"\(model.blockSize)\",num_gpu_blocks=\"\(model.blockCount)\","
                + "cache_dtype=\"\(model.kvCacheType)\",gpu_memory_utilization=\"\(model.gpuMemoryUtilization)\","
                + "enable_prefix_caching=\"\(model.enablePrefixCaching ? "True" : "False")\"", 1)
        guard let digests = model.digests else { return }
        family("apus:model_info", "gauge", "Digests of what the model is made of.")
        let labels = [
            ("model_digest", digests.model), ("tokenizer_digest", digests.tokenizer),
            ("chat_template_digest", digests.template ?? ""),
        ]
        sample(
            "apus:model_info", labels.reduce(modelLabel) { $0 + ",\($1.0)=\"\(Self.escaped($1.1))\"" }, 1)
    }

    private mutating func writeCounters(_ statistics: EngineStatistics) {
        counter("prompt_tokens", "Prompt tokens computed or found in the prefix cache.", statistics.promptTokens)
        counter("generation_tokens", "Tokens generated.", statistics.generationTokens)
        counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", statistics.prefixQueries)
        counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.", statistics.prefixHits)
        let cached = statistics.prefixHits
        counter("prompt_tokens_cached", "Prompt tokens that were not computed.", cached)
        counter(
            "prompt_tokens_by_source", "Prompt tokens by where their keys and values came from.", label: "source",
            [
                ("local_compute", max(0, statistics.promptTokens - cached)), ("local_cache_hit", cached),
                ("external_kv_transfer", 0),
            ])
        counter(
            "prompt_tokens_cached_by_source", "Prompt tokens that were not computed, by where they were kept.",
            label: "source",
            [("device", cached), ("host", 0), ("disk", 0), ("p2p", 0), ("external_unspecified", 0)])
        // What this server does not have is 0, not absent.
        counter("external_prefix_cache_queries", "Prompt tokens looked up in other servers' caches.", 0)
        counter("external_prefix_cache_hits", "Prompt tokens found in other servers' caches.", 0)
        counter("mm_cache_queries", "Images looked up.", 0)
        counter("mm_cache_hits", "Images found.", 0)
        counter("num_preemptions", "Sequences that lost their blocks to others.", statistics.preemptions)
        let guesses = statistics.speculation
        counter("spec_decode_num_drafts", "Guesses of the next tokens that were verified.", guesses.drafts)
        counter("spec_decode_num_draft_tokens", "Tokens in those guesses.", guesses.draftTokens)
        counter("spec_decode_num_accepted_tokens", "Tokens guessed right.", guesses.acceptedTokens)
        let forced = statistics.jumpForward
        for (name, help, value) in [
            ("drafts", "Texts that a grammar forced and that were computed in one step.", forced.drafts),
            ("draft_tokens", "Tokens in those texts.", forced.draftTokens),
            ("accepted_tokens", "Those of them that the model divided the text into as well.", forced.acceptedTokens),
        ] {
            family("apus:jump_forward_\(name)_total", "counter", help)
            sample("apus:jump_forward_\(name)_total", engineLabels, Double(value))
        }
        let finished = statistics.finished
        counter(
            "request_success", "Requests that ended, by reason.", label: "finished_reason",
            [
                ("stop", finished.stop), ("length", finished.length), ("abort", finished.abort),
                ("error", finished.error), ("repetition", finished.repetition),
            ])
        family("vllm:admission_rejections_total", "counter", "Requests refused before they ran, by reason.")
        let rejections = statistics.rejections
        for (reason, count) in [
            ("queue_full", rejections.queueFull), ("tenant_share", rejections.tenantShare),
            ("ttft_slo", rejections.delay), ("deadline", rejections.deadline),
        ] {
            sample("vllm:admission_rejections_total", modelLabel + ",reason=\"\(reason)\"", Double(count))
        }
    }

    private mutating func writeHistograms(_ statistics: EngineStatistics) {
        let histograms: [(String, String, Histogram)] = [
            ("time_to_first_token_seconds", "Arrival to first token.", statistics.timeToFirstToken),
            ("inter_token_latency_seconds", "From one token to the next.", statistics.interTokenLatency),
            (
                "request_time_per_output_token_seconds", "Mean time for a token after the first.",
                statistics.timePerOutputToken
            ),
            ("e2e_request_latency_seconds", "Arrival to last token.", statistics.endToEnd),
            ("request_queue_time_seconds", "Arrival to first scheduled.", statistics.queueTime),
            ("request_prefill_time_seconds", "First scheduled to first token.", statistics.prefillTime),
            ("request_decode_time_seconds", "First token to last token.", statistics.decodeTime),
            ("request_inference_time_seconds", "First scheduled to last token.", statistics.inferenceTime),
            ("request_prompt_tokens", "Prompt tokens of a request.", statistics.promptLength),
            ("request_generation_tokens", "Tokens generated for a request.", statistics.generationLength),
            (
                "request_prefill_kv_computed_tokens", "Prompt tokens of a request that were not in the prefix cache.",
                statistics.computedPromptLength
            ),
            ("request_num_preemptions", "Times a request lost its blocks.", statistics.preemptionCount),
            ("iteration_tokens_total", "Tokens computed in a step.", statistics.iterationTokens),
        ]
        for (name, help, histogram) in histograms { write(histogram, name: name, help: help) }
        family("apus:mask_seconds", "histogram", "Time to find out which tokens a grammar allows next.")
        samples(statistics.maskTime, "apus:mask_seconds", engineLabels)
        family("apus:mask_wait_seconds", "histogram", "Time that a step waited for that.")
        samples(statistics.maskWait, "apus:mask_wait_seconds", engineLabels)
    }

    // MARK: Series

    private mutating func gauge(_ name: String, _ help: String, _ value: Double) {
        family("vllm:" + name, "gauge", help)
        sample("vllm:" + name, engineLabels, value)
    }

    private mutating func counter(_ name: String, _ help: String, _ value: Int) {
        family("vllm:\(name)_total", "counter", help)
        sample("vllm:\(name)_total", engineLabels, Double(value))
    }

    private mutating func counter(_ name: String, _ help: String, label: String, _ values: [(String, Int)]) {
        family("vllm:\(name)_total", "counter", help)
        for (value, count) in values {
            sample("vllm:\(name)_total", engineLabels + ",\(label)=\"\(value)\"", Double(count))
        }
    }

    /// Writes a histogram under its `vllm:` name.
    mutating func write(_ histogram: Histogram, name: String, help: String) {
        family("vllm:" + name, "histogram", help)
        let isOfTokens = histogram.bounds == Histogram.tokenBounds
        samples(histogram, "vllm:" + name, engineLabels, upTo: isOfTokens ? maxModelLength : .infinity)
    }

    /// Writes the samples of one histogram of a family.
    /// - Parameter limit: the bounds above it are left out.
    mutating func samples(
        _ histogram: Histogram, _ name: String, _ labels: String, upTo limit: Double = .infinity
    ) {
        var cumulative = 0
        for (index, count) in histogram.counts.enumerated() {
            cumulative += count
            if index < histogram.bounds.count, histogram.bounds[index] > limit { continue }
            let bound = index < histogram.bounds.count ? "\(histogram.bounds[index])" : "+Inf"
            sample("\(name)_bucket", labels + ",le=\"\(bound)\"", Double(cumulative))
        }
        sample("\(name)_sum", labels, histogram.sum)
        sample("\(name)_count", labels, Double(histogram.count))
    }

    /// Writes the two lines before a family's samples.
    mutating func family(_ name: String, _ type: String, _ help: String) {
        buffer.writeString("# HELP \(name) \(help)\n# TYPE \(name) \(type)\n")
    }

    /// Writes one sample.
    mutating func sample(_ name: String, _ labels: String, _ value: Double) {
        let number = value.isFinite ? "\(value)" : value.isNaN ? "NaN" : value > 0 ? "+Inf" : "-Inf"
        buffer.writeString(labels.isEmpty ? "\(name) \(number)\n" : "\(name){\(labels)} \(number)\n")
    }

    /// Writes a family of one sample, labelled with the model.
    mutating func own(_ name: String, _ type: String, _ help: String, _ value: Double) {
        family("apus:" + name, type, help)
        sample("apus:" + name, engineLabels, value)
    }

    /// A label's value as the format wants it.
    static func escaped(_ value: String) -> String {
        var result = ""
        for character in value {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
        return result
    }
}
