// Every field at its limits and beyond them: a refusal is a 400 that names the field, and nothing reaches the engine.

import Execution
import Scheduling
import ServiceLifecycle
import Serving
import Testing
import Tokenization

@Suite struct ValidationTests {
    /// Bodies of /v1/completions without the prompt, and the field that the refusal names.
    static let refusedCompletions: [(String, String)] = [
        (#""temperature":-0.1"#, "temperature"), (#""temperature":2.1"#, "temperature"),
        (#""temperature":"1""#, "temperature"), (#""temperature":true"#, "temperature"),
        (#""top_p":0"#, "top_p"), (#""top_p":1.01"#, "top_p"), (#""top_p":-1"#, "top_p"),
        (#""top_k":-2"#, "top_k"), (#""top_k":1.5"#, "top_k"), (#""top_k":9223372036854775807"#, "top_k"),
        (#""top_k":9223372036854775808"#, "top_k"), (#""top_k":1e300"#, "top_k"),
        (#""min_p":-0.01"#, "min_p"), (#""min_p":1.1"#, "min_p"),
        (#""max_tokens":0"#, "max_tokens"), (#""max_tokens":-1"#, "max_tokens"), (#""max_tokens":1.5"#, "max_tokens"),
        (#""max_tokens":"5""#, "max_tokens"), (#""max_tokens":9223372036854775808"#, "max_tokens"),
        (#""max_completion_tokens":0"#, "max_completion_tokens"),
        (#""n":0"#, "n"), (#""n":129"#, "n"), (#""n":16385"#, "n"), (#""n":-1"#, "n"), (#""n":2147483648"#, "n"),
        (#""n":9223372036854775808"#, "n"), (#""seed":1.5"#, "seed"), (#""seed":9223372036854775808"#, "seed"),
        (#""stop":"""#, "stop"), (#""stop":["a",""]"#, "stop"), (#""stop":[1]"#, "stop"), (#""stop":5"#, "stop"),
        (#""stop":["0","1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g"]"#, "stop"),
        (#""stop":"\#(String(repeating: "x", count: 257))""#, "stop"),
        (#""ignore_eos":1"#, "ignore_eos"), (#""logprobs":21"#, "logprobs"), (#""logprobs":-1"#, "logprobs"),
        (#""logprobs":true"#, "logprobs"), (#""stream":"yes""#, "stream"), (#""stream_options":{}"#, "stream_options"),
        (#""stream":true,"stream_options":[]"#, "stream_options"),
        (#""stream":true,"stream_options":{"include_usage":1}"#, "stream_options.include_usage"),
        (#""model":5"#, "model"),
        (#""presence_penalty":2.1"#, "presence_penalty"), (#""frequency_penalty":-2.1"#, "frequency_penalty"),
        (#""repetition_penalty":0"#, "repetition_penalty"), (#""repetition_penalty":-1"#, "repetition_penalty"),
        (#""logit_bias":{"271":1}"#, "logit_bias"), (#""logit_bias":{"-1":1}"#, "logit_bias"),
        (#""logit_bias":{"a":1}"#, "logit_bias"), (#""logit_bias":{"5":"1"}"#, "logit_bias"),
        (#""logit_bias":[5]"#, "logit_bias"), (#""allowed_token_ids":[]"#, "allowed_token_ids"),
        (#""allowed_token_ids":[271]"#, "allowed_token_ids"), (#""allowed_token_ids":[-1]"#, "allowed_token_ids"),
        (#""allowed_token_ids":[258],"min_tokens":1"#, "allowed_token_ids"),
        (#""stop_token_ids":[271]"#, "stop_token_ids"), (#""stop_token_ids":["a"]"#, "stop_token_ids"),
        (#""bad_words":[""]"#, "bad_words"), (#""bad_words":"x""#, "bad_words"),
        (#""bad_words":["\#(String(repeating: "x", count: 1024))","y"]"#, "bad_words"),
        (#""min_tokens":17"#, "min_tokens"), (#""min_tokens":4,"max_tokens":3"#, "min_tokens"),
        (#""temperature":0,"n":2"#, "n"), (#""echo":1"#, "echo"),
        (#""prompt_logprobs":21"#, "prompt_logprobs"), (#""prompt_logprobs":-1"#, "prompt_logprobs"),
        (#""prompt_logprobs":1,"stream":true"#, "prompt_logprobs"),
        (#""truncate_prompt_tokens":-2"#, "truncate_prompt_tokens"),
        (#""truncate_prompt_tokens":241"#, "truncate_prompt_tokens"), (#""truncation_side":"up""#, "truncation_side"),
        (#""cache_salt":"""#, "cache_salt"), (#""cache_salt":"\#(String(repeating: "x", count: 129))""#, "cache_salt"),
        (#""cache_salt":5"#, "cache_salt"), (#""priority":1"#, "priority"), (#""timeout_ms":0"#, "timeout_ms"),
        (#""repetition_detection":{"max_pattern_size":3}"#, "repetition_detection.min_count"),
        (#""repetition_detection":{"max_pattern_size":3,"min_count":1}"#, "repetition_detection.min_count"),
        (
            #""repetition_detection":{"max_pattern_size":3,"min_pattern_size":4,"min_count":2}"#,
            "repetition_detection.min_pattern_size"
        ),
        // What is not there is refused by name.
        (#""suffix":"s""#, "suffix"), (#""use_beam_search":true"#, "use_beam_search"),
        (#""guided_whitespace_pattern":" ""#, "guided_whitespace_pattern"),
        (#""guided_regex":"a","guided_choice":["a"]"#, "guided_regex"),
        (#""guided_choice":[],"structured_outputs":{"regex":"a"}"#, "guided_choice"),
        (#""guided_choice":["a"],"response_format":{"type":"json_object"}"#, "guided_choice"),
        (#""guided_choice":[]"#, "guided_choice"),
        (#""structured_outputs":{"json":{},"regex":"a"}"#, "structured_outputs"),
        (#""response_format":{"type":"xml"}"#, "response_format.type"),
        (#""response_format":{}"#, "response_format.type"), (#""response_format":"text""#, "response_format"),
        (#""prompt_embeds":"x""#, "prompt_embeds"), (#""top_logprobs":1"#, "top_logprobs"),
        (#""mirostat":2"#, "mirostat"),
    ]

    @Test func `a completion's field out of its range is refused by name`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            let client = try await server.connect()
            for (members, field) in Self.refusedCompletions {
                try await client.post("/v1/completions", #"{"prompt":"x",\#(members)}"#)
                let answer = try await client.answer()
                #expect(answer.status == 400, "\(members)")
                #expect(answer.body.contains(#""param":"\#(field)","code":400}}"#), "\(members) gave \(answer.body)")
                let isSchema = answer.body.contains(#""type":"Bad Request""#)
                let prefix = isSchema ? "1 validation error: " : ""
                #expect(answer.body.hasPrefix(#"{"error":{"message":"\#(prefix)\#(field) is "#), "\(answer.body)")
            }
        }
        #expect(engine.submitted.isEmpty)
    }

    @Test(arguments: [
        #""temperature":0,"top_p":1,"top_k":-1,"min_p":0,"n":1,"seed":-1,"stop":null,"logprobs":null"#,
        #""temperature":2,"top_p":0.0001,"top_k":0,"min_p":1,"seed":9223372036854775807,"stop":[],"max_tokens":3.0"#,
        #""presence_penalty":0,"frequency_penalty":0.0,"repetition_penalty":1.0,"echo":false,"suffix":null"#,
        #""presence_penalty":-2,"frequency_penalty":2,"repetition_penalty":1e300,"best_of":3"#,
        #""logit_bias":{"0":-1000,"270":1e9},"allowed_token_ids":[0,270],"stop_token_ids":[5],"bad_words":["x"," y"]"#,
        #""truncate_prompt_tokens":240,"truncation_side":"right","add_special_tokens":false,"prompt_logprobs":20"#,
        #""truncate_prompt_tokens":-1,"min_tokens":16,"max_tokens":16,"include_stop_str_in_output":true"#,
        #""skip_special_tokens":false,"spaces_between_special_tokens":false,"return_token_ids":true"#,
        #""repetition_detection":{"max_pattern_size":3,"min_pattern_size":2,"min_count":2},"timeout_ms":86400000"#,
        #""repetition_detection":{"max_pattern_size":0},"return_tokens_as_token_ids":true,"logprobs":0,"echo":true"#,
        #""logit_bias":{},"max_tokens":null"#,
        #""min_tokens":16,"ignore_eos":true"#,
        #""best_of":1,"min_tokens":0,"stop_token_ids":[],"bad_words":[],"use_beam_search":false,"priority":0"#,
        #""response_format":{"type":"text"},"skip_special_tokens":true,"stream":false,"stream_options":null"#,
        #""user":"u","store":true,"metadata":{"a":1},"service_tier":"auto","never_heard_of":[1,2,{"x":null}]"#,
        #""n":64,"max_tokens":9223372036854775807,"logprobs":20,"seed":-9223372036854775808"#,
        #""stop":["0","1","2","3","4","5","6","7","8","9","a","b","c","d","e","f"]"#,
        #""stop":"\#(String(repeating: "x", count: 256))""#,
    ])
    func `neutral values, values at the limit and unknown fields are accepted`(members: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"x",\#(members)}"#)
            #expect(answer.status == 200, "\(members) gave \(answer.body)")
        }
    }

    @Test(arguments: [
        ("null", "prompt"), (#""""#, "prompt"), ("[]", "prompt"), ("5", "prompt"), ("{}", "prompt"),
        (#"["a",""]"#, "prompt.1"),
        (#"["a",5]"#, "prompt.1"), ("[1,-1]", "prompt"), ("[1,271]", "prompt"), ("[1,2.5]", "prompt"),
        ("[1,9223372036854775808]", "prompt"), ("[[1],[]]", "prompt.1"), ("[[1],[1,\"a\"]]", "prompt.1"),
        ("[true]", "prompt.0"), ("[[[1]]]", "prompt.0"),
    ])
    func `a prompt of the wrong shape is refused`(prompt: String, field: String) async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":\#(prompt)}"#)
            #expect(answer.status == 400)
            #expect(answer.body.contains(#""param":"\#(field)""#), "\(answer.body)")
        }
        #expect(engine.submitted.isEmpty)
    }

    @Test func `all four shapes of a prompt reach the engine as tokens`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            for prompt in [#""ab""#, #"["a","b<|im_end|>"]"#, "[97,270]", "[[1],[2,3]]"] {
                let answer = try await server.post("/v1/completions", #"{"prompt":\#(prompt)}"#)
                #expect(answer.status == 200)
            }
        }
        // Text that spells a control token is only text.
        #expect(
            engine.submitted.map(\.prompt) == [
                [97, 98], [97], Vocabulary.bytes("b<|im_end|>"), [97, 270], [1], [2, 3],
            ])
    }

    static let refusedChats: [(String, String)] = [
        (#"{}"#, "messages"), (#"{"messages":[]}"#, "messages"), (#"{"messages":"x"}"#, "messages"),
        (#"{"messages":[5]}"#, "messages.0"), (#"{"messages":[{}]}"#, "messages.0.role"),
        (#"{"messages":[{"role":"robot","content":"x"}]}"#, "messages.0.role"),
        (#"{"messages":[{"role":"user"}]}"#, "messages.0.content"),
        (#"{"messages":[{"role":"user","content":5}]}"#, "messages.0.content"),
        (#"{"messages":[{"role":"user","content":[]}]}"#, "messages.0.content"),
        (#"{"messages":[{"role":"user","content":["x"]}]}"#, "messages.0.content.0"),
        (#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#, "messages.0.content.0.type"),
        (
            #"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}"#,
            "messages.0.content.0.type"
        ),
        (#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "messages.0.content.0.text"),
        (#"{"messages":[{"role":"assistant","tool_calls":[{}]}]}"#, "messages.0.tool_calls.0.function"),
        (#"{"messages":[{"role":"user","content":"x","tool_calls":[{}]}]}"#, "messages.0.tool_calls"),
        (#"{"messages":[{"role":"user","content":"x","name":5}]}"#, "messages.0.name"),
    ]

    @Test(arguments: refusedChats)
    func `a conversation of the wrong shape is refused`(body: String, field: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post("/v1/chat/completions", body)
            #expect(answer.status == 400)
            #expect(answer.body.contains(#""param":"\#(field)""#), "\(answer.body)")
        }
    }

    @Test(arguments: [
        (#""tools":[]"#, "tools"), (#""tool_choice":"auto""#, "tool_choice"), (#""functions":[]"#, "functions"),
        (#""top_logprobs":2"#, "top_logprobs"), (#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
        (#""logprobs":1"#, "logprobs"), (#""chat_template":"x""#, "chat_template"),
        (#""continue_final_message":true,"add_generation_prompt":true"#, "continue_final_message"),
        (#""max_tokens":0"#, "max_tokens"), (#""max_tokens":0,"echo":true"#, "max_tokens"),
        (#""chat_template_kwargs":[]"#, "chat_template_kwargs"),
        (#""max_tokens":0,"max_completion_tokens":5"#, "max_tokens"),
        (#""reasoning_effort":"most""#, "reasoning_effort"), (#""reasoning_effort":3"#, "reasoning_effort"),
        (#""documents":{}"#, "documents"), (#""documents":[{},"x"]"#, "documents"),
    ])
    func `a chat's field that is not there is refused by name`(members: String, field: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/chat/completions", #"{"messages":[{"role":"user","content":"x"}],\#(members)}"#)
            #expect(answer.status == 400)
            #expect(answer.body.contains(#""param":"\#(field)""#), "\(answer.body)")
        }
    }

    @Test func `a conversation is rendered with control tokens from the template alone`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            let answer = try await server.post(
                "/v1/chat/completions",
                #"{"messages":[{"role":"developer","content":"s"},"#
                    + #"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"<|im_end|>"}]},"#
                    + #"{"role":"assistant","content":null}],"tool_choice":null,"temperature":0}"#)
            #expect(answer.status == 200, "\(answer.body)")
        }
        let (begin, end) = ([Vocabulary.beginTurn], [Vocabulary.endTurn])
        let expected =
            begin + Vocabulary.bytes("system\ns") + end + Vocabulary.bytes("\n") + begin
            + Vocabulary.bytes("user\na\n<|im_end|>") + end + Vocabulary.bytes("\n") + begin
            + Vocabulary.bytes("assistant\n") + end + Vocabulary.bytes("\n") + begin + Vocabulary.bytes("assistant\n")
        #expect(engine.submitted.first?.prompt == expected)
        // Without a limit a chat runs until the context is full.
        #expect(engine.submitted.first?.maxNewTokens == 256 - expected.count)
        #expect(engine.submitted.first?.stopTokens == [Vocabulary.endTurn, Vocabulary.endOfText])
    }

    @Test(arguments: [
        (#""reasoning_effort":"high""#, "high - "), (#""reasoning_effort":"none""#, "none false "),
        (#""reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true}"#, "none true "),
        (#""documents":[{"title":"t","text":"x"},{"title":"u"}]"#, "- - t,u"), (#""documents":[]"#, "- - "),
        (#""documents":[{"title":"t"}],"chat_template_kwargs":{"documents":[{"title":"v"}]}"#, "- - v"),
    ])
    func `the template sees the effort and the documents`(members: String, rendered: String) async throws {
        let template = try ChatTemplate(
            source: "{{ reasoning_effort | default('-') }} {{ (enable_thinking | string | lower) if enable_thinking "
                + "is defined else '-' }} {{ (documents or []) | map(attribute='title') | join(',') }}")
        let engine = FakeEngine("ok")
        try await withServer(engine, model: Vocabulary.model(chatTemplate: template)) { server in
            let answer = try await server.post(
                "/v1/chat/completions", #"{"messages":[{"role":"user","content":"x"}],\#(members)}"#)
            #expect(answer.status == 200, "\(answer.body)")
        }
        #expect(try Vocabulary.tokenizer.decode(engine.submitted.first?.prompt ?? []) == rendered)
    }

    @Test func `sampling settings reach the engine as they were meant`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            _ = try await server.post("/v1/completions", #"{"prompt":"x"}"#)
            _ = try await server.post(
                "/v1/completions", #"{"prompt":"x","temperature":0.000001,"top_k":-1,"ignore_eos":true}"#)
            _ = try await server.post(
                "/v1/completions",
                #"{"prompt":"x","temperature":0.001,"top_p":0.5,"top_k":3,"min_p":0.25,"seed":-2,"n":2,"logprobs":0}"#)
        }
        let requests = engine.submitted
        #expect(requests.count == 4)
        #expect(requests[0].sampling.temperature == 1)
        #expect(requests[0].maxNewTokens == 16)
        #expect(requests[1].sampling.temperature == 0)
        #expect(requests[1].sampling.topK == 0)
        #expect(requests[1].stopTokens == [])
        let last = requests[3].sampling
        #expect((last.temperature, last.topP, last.topK, last.minP) == (0.01, 0.5, 3, 0.25))
        #expect((requests[2].sampling.seed, last.seed, last.logprobCount) == (.max - 1, .max, 0))
    }

    @Test func `rules, salts, deadlines and priorities reach the engine`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine, model: Vocabulary.model(usesPriorities: true)) { server in
            _ = try await server.post(
                "/v1/completions",
                #"{"prompt":"x","presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"min_tokens":3,"#
                    + #""logit_bias":{"5":200,"6":-0.5},"allowed_token_ids":[9,7,9],"bad_words":["ab"],"#
                    + #""stop_token_ids":[65],"cache_salt":"a","priority":-3,"timeout_ms":5000,"prompt_logprobs":2,"#
                    + #""repetition_detection":{"max_pattern_size":4,"min_count":3}}"#,
                headers: "X-Request-Timeout-Ms: 7000\r\nX-Envoy-Expected-Rq-Timeout-Ms: 4000\r\n")
            _ = try await server.post("/v1/completions", #"{"prompt":"x","cache_salt":"a","echo":true,"logprobs":1}"#)
            _ = try await server.post("/v1/completions", #"{"prompt":"x","cache_salt":"b","ignore_eos":true}"#)
        }
        let requests = engine.submitted
        try #require(requests.count == 3)
        let rules = try #require(requests[0].sampling.rules)
        #expect((rules.presencePenalty, rules.frequencyPenalty, rules.repetitionPenalty) == (1, -1, 1.5))
        #expect(rules.biases == [TokenBias(token: 5, bias: 100), TokenBias(token: 6, bias: -0.5)])
        #expect(rules.allowedTokens == [7, 9])
        #expect(rules.bannedSequences == [Vocabulary.bytes("ab"), Vocabulary.bytes(" ab")])
        #expect(rules.minNewTokens == 3)
        #expect(rules.endTokens == [Vocabulary.endTurn, Vocabulary.endOfText, 65])
        #expect(requests[0].stopTokens == [Vocabulary.endTurn, Vocabulary.endOfText, 65])
        #expect((requests[0].priority, requests[0].promptLogprobCount) == (-3, 2))
        #expect(requests[0].deadline == requests[0].arrival + .seconds(4))
        #expect(requests[0].repetition == RepetitionDetection(patternSizes: 1...4, minCount: 3))
        #expect(requests[0].cacheSalt == requests[1].cacheSalt && requests[1].cacheSalt != requests[2].cacheSalt)
        #expect(requests.allSatisfy { $0.cacheSalt != 0 })
        // Whoever asks for nothing special costs nothing special.
        #expect(requests[1].sampling.rules == nil && requests[1].promptLogprobCount == 1)
        #expect(requests[2].deadline == nil && requests[2].promptLogprobCount == nil)
    }

    @Test(arguments: [
        (#""continue_final_message":true"#, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nsure"),
        (
            #""add_generation_prompt":false"#,
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nsure <|im_end|>\n"
        ),
    ])
    func `a conversation ends where it is asked to`(members: String, rendered: String) async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            let answer = try await server.post(
                "/v1/chat/completions",
                #"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"sure "}],\#(members)}"#)
            #expect(answer.status == 200, "\(answer.body)")
        }
        let tokens = engine.submitted.first?.prompt ?? []
        #expect(try Vocabulary.tokenizer.decode(tokens) == rendered)
    }

    @Test func `a prompt that leaves no room is refused and one that leaves room is clipped`() async throws {
        let engine = FakeEngine(String(repeating: "y", count: 300))
        try await withServer(engine, model: Vocabulary.model(maxModelLength: 32)) { server in
            func complete(_ count: Int) async throws -> RawClient.Answer {
                let prompt = String(repeating: "x", count: count)
                return try await server.post("/v1/completions", #"{"prompt":"\#(prompt)","max_tokens":100}"#)
            }
            let fitting = try await complete(31)
            #expect(fitting.status == 200)
            #expect(fitting.body.contains(#""completion_tokens":1,"#))
            let exact = try await complete(32)
            #expect(exact.status == 400)
            #expect(
                exact.body == #"{"error":{"message":"This model's maximum context length is 32 tokens. However, your "#
                    + #"request has 32 input tokens, which leaves no room for an output token. "#
                    + #"Please reduce the length of the input.","type":"BadRequestError","#
                    + #""param":"input_tokens","code":400}}"#)
            #expect(try await complete(33).body.contains("has at least 33 input tokens"))
            #expect(try await complete(500_000).body.contains("has at least 33 input tokens"))
        }
        #expect(engine.submitted.count == 1)
    }

    @Test func `more prompts or sequences than the limits are refused`() async throws {
        try await withServer(FakeEngine("ok"), model: Vocabulary.model(queue: 20)) { server in
            func prompts(_ count: Int, n: Int) async throws -> RawClient.Answer {
                let list = Array(repeating: #""x""#, count: count).joined(separator: ",")
                return try await server.post("/v1/completions", #"{"prompt":[\#(list)],"n":\#(n)}"#)
            }
            let atLimit = try await prompts(20, n: 1)
            #expect(atLimit.status == 200)
            #expect(try await prompts(5, n: 4).status == 200)
            #expect(try await prompts(21, n: 1).body.contains("asks for 21 sequences"))
            #expect(try await prompts(1025, n: 1).body.contains("a list of at most 1024 prompts"))
        }
    }

    @Test func `unknown models are not found and every served name is`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let unknown = try await server.post("/v1/completions", #"{"model":"gpt","prompt":"x"}"#)
            #expect(unknown.status == 404)
            #expect(
                unknown.body == #"{"error":{"message":"The model `gpt` does not exist. This server has: `tiny`, "#
                    + #"`org/tiny`.","type":"NotFoundError","param":"model","code":404}}"#)
            let alias = try await server.post("/v1/completions", #"{"model":"org/tiny","prompt":"x"}"#)
            #expect(alias.body.contains(#""model":"org/tiny""#))
        }
    }

    @Test func `a model without a template has no chat`() async throws {
        try await withServer(FakeEngine("ok"), model: Vocabulary.model(chatTemplate: nil)) { server in
            let answer = try await server.post(
                "/v1/chat/completions", #"{"messages":[{"role":"user","content":"x"}]}"#)
            #expect(answer.status == 400)
            #expect(answer.body.contains("has no chat template"))
        }
    }
}
