// The configuration as operators meet it: what is accepted from each source, who wins, and what is said about
// everything that is wrong.

import Testing
import apus

/// A setting given in one source, and what the problem must say.
struct BadSetting: CustomTestStringConvertible {
    enum Source { case flag, variable, yaml }
    let source: Source
    /// The name as it is written in the source, and the text given.
    let name: String
    let text: String
    /// The whole sentence.
    let message: String

    var testDescription: String { "\(source) \(name) = \(text)" }

    /// What resolving this setting alone reports.
    func report() -> [String] {
        var flags = SettingSource()
        var sources: [SettingSource] = []
        switch source {
        case .flag: flags.given = [GivenSetting(name, [text], from: .flag)]
        case .variable: sources = [SettingSource(environment: [name: text])]
        case .yaml: sources = [SettingSource(yaml: "# first line\n\(name): \(text)\n", path: "apus.yaml")]
        }
        return problems { try ResolvedSettings.resolve(sources: [flags] + sources) }
    }
}

/// The sentences of the `ConfigurationError` that `body` throws; none when it throws nothing.
func problems(_ body: () throws -> ResolvedSettings) -> [String] {
    do {
        _ = try body()
        return []
    } catch let error as ConfigurationError {
        return error.problems.map(\.description)
    } catch {
        return ["unexpected: \(error)"]
    }
}

private func flag(_ name: String, _ text: String, _ message: String) -> BadSetting {
    BadSetting(source: .flag, name: name, text: text, message: "--\(name) is \"\(text)\" but must be \(message).")
}

private func variable(_ name: String, _ text: String, _ message: String) -> BadSetting {
    BadSetting(source: .variable, name: name, text: text, message: "\(name) \(message)")
}

private func yaml(_ name: String, _ text: String, _ message: String) -> BadSetting {
    BadSetting(source: .yaml, name: name, text: text, message: "apus.yaml:2: \(name) \(message)")
}

private let badSettings: [BadSetting] = [
    // Limits plus one, and minus one.
    flag("max-num-seqs", "0", "auto or a whole number from 1 to 4096"),
    flag("max-num-seqs", "4097", "auto or a whole number from 1 to 4096"),
    flag("max-num-batched-tokens", "0", "auto or a whole number from 1 to 1048576"),
    flag("max-num-batched-tokens", "1048577", "auto or a whole number from 1 to 1048576"),
    flag("max-model-len", "1", "auto or a whole number from 2 to 16777216"),
    flag("max-model-len", "16777217", "auto or a whole number from 2 to 16777216"),
    flag("max-model-len", "-2", "auto or a whole number from 2 to 16777216"),
    flag("port", "-1", "a whole number from 0 to 65535"),
    flag("port", "65536", "a whole number from 0 to 65535"),
    flag("threads", "0", "auto or a whole number from 1 to 512"),
    flag("threads", "513", "auto or a whole number from 1 to 512"),
    flag("max-num-queued-reqs", "0", "a whole number from 1 to 1048576"),
    flag("num-gpu-blocks-override", "0", "a whole number from 1 to 1073741824"),
    flag("long-prefill-token-threshold", "-1", "a whole number from 0 to 1048576"),
    flag("kv-cache-memory-bytes", "1023KiB", "auto or a number of bytes from 1MiB to 16TiB, such as 2GiB"),
    flag("kv-cache-memory-bytes", "17TiB", "auto or a number of bytes from 1MiB to 16TiB, such as 2GiB"),
    flag("max-request-body-bytes", "1023", "a number of bytes from 1KiB to 1GiB, such as 2GiB"),
    flag("shutdown-timeout", "3601", "a time from 0s to 3600s, such as 30s"),
    flag("timeout-keep-alive", "999ms", "a time from 1s to 3600s, such as 30s"),
    // Not one of the allowed values.
    flag("block-size", "12", "8, 16, 32, 64 or 128"),
    flag("block-size", "256", "8, 16, 32, 64 or 128"),
    flag("dtype", "float16", "auto or float32"),
    flag("cpu-isa", "neon", "auto, avx512-bf16, avx512, avx2 or portable"),
    flag("scheduling-policy", "lifo", "fcfs, priority or fair"),
    flag("log-level", "loud", "trace, debug, info, notice, warning, error or critical"),
    flag("log-format", "xml", "text or json"),
    // Not of the kind.
    flag("max-num-seqs", "many", "auto or a whole number from 1 to 4096"),
    flag("max-num-seqs", "", "auto or a whole number from 1 to 4096"),
    flag("max-num-seqs", "1.5", "auto or a whole number from 1 to 4096"),
    flag("max-num-seqs", "1e2", "auto or a whole number from 1 to 4096"),
    flag("max-num-seqs", "0x10", "auto or a whole number from 1 to 4096"),
    flag("max-num-seqs", "٣", "auto or a whole number from 1 to 4096"),
    flag("max-num-batched-tokens", "1.0001k", "auto or a whole number from 1 to 1048576"),
    flag("max-num-batched-tokens", "9223372036854775808", "auto or a whole number from 1 to 1048576"),
    flag("max-num-batched-tokens", "1T", "auto or a whole number from 1 to 1048576"),
    flag("max-num-batched-tokens", "99999999999999999g", "auto or a whole number from 1 to 1048576"),
    flag("port", "auto", "a whole number from 0 to 65535"),
    flag("kv-cache-memory-bytes", "2 gigs", "auto or a number of bytes from 1MiB to 16TiB, such as 2GiB"),
    flag("shutdown-timeout", "soon", "a time from 0s to 3600s, such as 30s"),
    flag("host", "", "a text that is not empty"),
    flag("home", " ", "a path that is not empty"),
    flag("served-model-name", "a,,b", "one or more texts, none of them empty"),
    flag("itl-buckets", "0,1", "at most 64 times in seconds above 0, each larger than the one before"),
    flag("itl-buckets", "0.1,0.1", "at most 64 times in seconds above 0, each larger than the one before"),
    flag("itl-buckets", "1,inf", "at most 64 times in seconds above 0, each larger than the one before"),
    flag("itl-buckets", "10ms", "at most 64 times in seconds above 0, each larger than the one before"),
    variable("APUS_ENABLE_PREFIX_CACHING", "maybe", "is \"maybe\" but must be true or false."),
    variable("APUS_PORT", "80000", "is \"80000\" but must be a whole number from 0 to 65535."),
    variable("APUS_BLOCK_SIZE", "", "is \"\" but must be 8, 16, 32, 64 or 128."),
    // Names nobody knows.
    variable("APUS_MAX_NUM_SEQ", "4", "is not a setting. Did you mean APUS_MAX_NUM_SEQS?"),
    variable("APUS_KV_CACHE_MEMORY_BYTE", "4", "is not a setting. Did you mean APUS_KV_CACHE_MEMORY_BYTES?"),
    variable("APUS_XYZZY", "4", "is not a setting."),
    yaml("max_num_seq", "8", "is not a setting. Did you mean max-num-seqs?"),
    yaml("blocksize", "8", "is not a setting. Did you mean block-size?"),
    yaml("prot", "8", "is not a setting. Did you mean port?"),
    yaml("page-size", "8", "is not a setting. Did you mean block-size?"),
    yaml("ctx_size", "8", "is not a setting. Did you mean max-model-len?"),
    yaml("mem-fraction-static", "0.9", "is not a setting. Did you mean gpu-memory-utilization?"),
    yaml("no-enable-prefix-caching", "true", "is not a setting. Did you mean enable-prefix-caching?"),
    yaml("tp_size", "2", "is not a setting. Did you mean tensor-parallel-size?"),
    yaml("nnodes", "2", "is not a setting."),
    yaml("config", "other.yaml", "is not a setting."),
    // YAML values of the wrong form.
    yaml("port", "", "holds no value; it takes a single value, or a list where the setting is a list."),
    yaml("port", "~", "holds no value; it takes a single value, or a list where the setting is a list."),
    yaml("port", "[1, 2]", "holds a list; it takes a single value, or a list where the setting is a list."),
    yaml("port", "{a: 1}", "holds a mapping; it takes a single value, or a list where the setting is a list."),
    yaml(
        "served-model-name", "[a, [b]]",
        "holds a list of lists or mappings; it takes a single value, or a list where the setting is a list."),
    yaml("port", "\"eight\"", "").with("apus.yaml:2: port is \"eight\" but must be a whole number from 0 to 65535."),
]

extension BadSetting {
    fileprivate func with(_ message: String) -> BadSetting {
        BadSetting(source: source, name: name, text: text, message: message)
    }
}

@Test(arguments: badSettings)
func `a bad setting is reported with its place, its value and the repair`(_ bad: BadSetting) {
    #expect(bad.report() == [bad.message])
}

@Test(arguments: [
    ("max-num-seqs", "4096", 4096), ("max-num-seqs", "1", 1), ("max-model-len", "8k", 8000),
    ("max-model-len", "32K", 32768), ("max-model-len", "1.5K", 1536), ("max-model-len", "25.6k", 25600),
    ("max-model-len", "16M", 16_777_216), ("max-model-len", "131_072", 131072), ("port", "0", 0),
    ("port", "65535", 65535), ("kv-cache-memory-bytes", "2GiB", 2 << 30),
    ("kv-cache-memory-bytes", "2 GB", 2_000_000_000),
    ("kv-cache-memory-bytes", "512m", 512 << 20), ("kv-cache-memory-bytes", "1048576", 1 << 20),
    ("kv-cache-memory-bytes", "16TiB", 16 << 40), ("shutdown-timeout", "30", 30_000), ("shutdown-timeout", "0", 0),
    ("shutdown-timeout", "1500ms", 1500), ("shutdown-timeout", "0.5", 500), ("shutdown-timeout", "2m", 120_000),
    ("shutdown-timeout", "1h", 3_600_000), ("block-size", "128", 128),
    ("max-num-queued-tokens", "1g", 1_000_000_000),
])
func `numbers are read exactly, with their suffixes`(name: String, text: String, expected: Int) throws {
    let setting = try #require(Setting.named(name))
    #expect(setting.parse([text]) == .success(.integer(expected)))
}

@Test func `auto and minus one leave a value to the server`() {
    for text in ["auto", "AUTO", "-1", " auto "] {
        #expect(Setting.maxModelLen.parse([text]) == .success(.auto))
    }
}

@Test func `all problems of all sources are reported at once`() {
    let flags = SettingSource(given: [GivenSetting("port", ["99999"], from: .flag)])
    let variables = SettingSource(environment: ["APUS_THREADS": "none", "APUS_BLOKC_SIZE": "8", "PATH": "/bin"])
    let file = SettingSource(
        yaml: """
            # limits
            max-num-seqs: 0
            bloc-size: 16

            dtype: int3
            max_num_batched_tokens: 32
            long-prefill-token-threshold: 64
            """, path: "conf/apus.yaml")
    let reported = problems {
        try ResolvedSettings.resolve(
            sources: [flags, variables, file], required: [RequiredSetting(setting: .model, repair: "Name a model.")])
    }
    #expect(
        reported == [
            "conf/apus.yaml:2: max-num-seqs is \"0\" but must be auto or a whole number from 1 to 4096.",
            "conf/apus.yaml:3: bloc-size is not a setting. Did you mean block-size?",
            "conf/apus.yaml:5: dtype is \"int3\" but must be auto or float32.",
            "--port is \"99999\" but must be a whole number from 0 to 65535.",
            "APUS_BLOKC_SIZE is not a setting. Did you mean APUS_BLOCK_SIZE?",
            "APUS_THREADS is \"none\" but must be auto or a whole number from 1 to 512.",
            "model is not given. Name a model.",
            "long-prefill-token-threshold (64) is more than max-num-batched-tokens (32), so it limits nothing. "
                + "Lower it, or give 0 to switch it off.",
        ])
}

@Test func `a value that is overridden is checked all the same`() {
    let flags = SettingSource(given: [GivenSetting("port", ["9000"], from: .flag)])
    let file = SettingSource(yaml: "port: nine", path: "apus.yaml")
    #expect(
        problems { try ResolvedSettings.resolve(sources: [flags, file]) }
            == ["apus.yaml:1: port is \"nine\" but must be a whole number from 0 to 65535."])
}

@Test func `a flag wins over a variable, a variable over the file, the file over the default`() throws {
    let flags = SettingSource(given: [GivenSetting("port", ["1001"], from: .flag)])
    let variables = SettingSource(environment: ["APUS_PORT": "1002"])
    let file = SettingSource(yaml: "\nport: 1003", path: "apus.yaml")
    func port(_ sources: SettingSource...) throws -> ResolvedSettings.Entry {
        try ResolvedSettings.resolve(sources: sources)[.port]
    }
    #expect(try port(flags, variables, file) == .init(value: .integer(1001), origin: .flag))
    #expect(try port(flags, file) == .init(value: .integer(1001), origin: .flag))
    #expect(try port(flags, variables) == .init(value: .integer(1001), origin: .flag))
    #expect(try port(variables, file) == .init(value: .integer(1002), origin: .environment))
    #expect(try port(file) == .init(value: .integer(1003), origin: .file(path: "apus.yaml", line: 2)))
    #expect(try port() == .init(value: .integer(8000), origin: .builtIn))
}

@Test func `hyphens, underscores, lists and quoted values mean the same in the file`() throws {
    let text = """
        model: "smollm2-135m-instruct"
        served_model_name:
          - small
          - 'm'
        enable_prefix_caching: no
        max-model-len: auto
        kv_cache_memory_bytes: 1GiB
        """
    let settings = try ResolvedSettings.resolve(sources: [SettingSource(yaml: text, path: "apus.yml")])
    #expect(settings.text(.model) == "smollm2-135m-instruct")
    #expect(settings.texts(.servedModelName) == ["small", "m"])
    #expect(settings[.servedModelName].origin == .file(path: "apus.yml", line: 2))
    #expect(!settings.boolean(.enablePrefixCaching))
    #expect(settings[.maxModelLen].value == .auto)
    #expect(settings.integer(.kvCacheMemoryBytes) == 1 << 30)
}

@Test(arguments: [
    ("port: 1\nport: 2\n", "apus.yaml:"),
    ("port: 1\nblock-size: 8\nblock_size: 16\n", "apus.yaml:3: block_size is given twice; line 2"),
    ("- port\n- 1\n", "apus.yaml:1: The file must be a mapping"), ("port: [1\n", "apus.yaml:2: This is not YAML"),
    ("port: 1\n\tblock-size: 2\n", "apus.yaml:2: This is not YAML"),
    ("just text", "apus.yaml:1: The file must be a mapping"),
    ("a: &a [b]\nport: *a\n", "apus.yaml:1: a is not a setting"),
    (String(repeating: "[", count: 5000), "apus.yaml:1: The line nests too deeply"),
    (String(repeating: "- ", count: 5000), "apus.yaml:1: The line nests too deeply"),
    (String(repeating: "[\n", count: 5000), "apus.yaml:201: The line nests too deeply"),
])
func `a file that is not a mapping of settings is refused with the line`(text: String, beginning: String) throws {
    let reported = problems { try ResolvedSettings.resolve(sources: [SettingSource(yaml: text, path: "apus.yaml")]) }
    #expect(reported.first?.hasPrefix(beginning) == true, "\(reported)")
}

@Test(arguments: ["", "# only a comment\n", "---\n"])
func `an empty file gives nothing`(text: String) {
    #expect(SettingSource(yaml: text, path: "apus.yaml") == SettingSource())
}

@Test func `a file that cannot be read is a problem of the configuration`() {
    for (path, sentence) in [
        (
            "/nowhere/apus.yaml",
            "The configuration file /nowhere/apus.yaml cannot be read. Check that it exists and its permissions."
        ),
        ("apus.toml", "The configuration file apus.toml must end in .yaml or .yml."),
    ] {
        let flags = SettingSource(given: [GivenSetting("config", [path], from: .flag)])
        #expect(problems { try ResolvedSettings.resolve(flags: flags, environment: [:]) } == [sentence])
    }
}

@Test(arguments: [
    ("127.0.0.1", true), ("127.8.9.10", true), ("localhost", true), ("::1", true), ("0.0.0.0", false), ("::", false),
    ("127.0.0.1.example.com", false), ("127.0.0.256", false), ("10.0.0.1", false), ("1270.0.0.1", false),
    ("127.0.0.", false), ("127.0.0.+1", false),
])
func `an address that others can reach needs a decision`(host: String, isLoopback: Bool) {
    func resolve(_ given: GivenSetting...) -> [String] {
        problems { try ResolvedSettings.resolve(sources: [SettingSource(given: given)]) }
    }
    let host = GivenSetting("host", [host], from: .flag)
    #expect(resolve(host).isEmpty == isLoopback)
    #expect(resolve(host, GivenSetting("allow-unauthenticated", ["true"], from: .flag)).isEmpty)
    #expect(resolve(host, GivenSetting("api-key", ["k"], from: .environment)).isEmpty)
    #expect(resolve(host, GivenSetting("api-key-file", ["keys"], from: .flag)).isEmpty)
    #expect(resolve(host, GivenSetting("uds", ["socket"], from: .flag)).isEmpty)
}

@Test func `a key shows nowhere`() throws {
    let key = "sk-canary-0123456789"
    let settings = try ResolvedSettings.resolve(
        sources: [SettingSource(given: [GivenSetting("api-key", [key, key + "b"], from: .environment)])])
    let listing = ConfigurationListing(settings)
    let shown = [listing.table, listing.json.lines, settings.given.joined()]
    #expect(shown.allSatisfy { !$0.contains("canary") })
    #expect(listing.table.contains("2 (hidden)"))
    let refused = problems {
        try ResolvedSettings.resolve(
            sources: [SettingSource(given: [GivenSetting("api-key", [key + ",,"], from: .environment)])])
    }
    #expect(refused.count == 1 && refused.allSatisfy { !$0.contains("canary") })
}

@Test func `pages of every origin may not act as their visitor`() {
    func resolve(_ origins: String) -> [String] {
        problems {
            try ResolvedSettings.resolve(
                sources: [SettingSource(yaml: "allow-credentials: true\nallowed-origins: \(origins)", path: "a.yaml")])
        }
    }
    #expect(resolve("['https://a.example']").isEmpty)
    #expect(resolve("'*'").count == 1)
}

@Test func `settings that contradict one another are refused with both values`() {
    func resolve(_ yaml: String) -> [String] {
        problems { try ResolvedSettings.resolve(sources: [SettingSource(yaml: yaml, path: "apus.yaml")]) }
    }
    #expect(resolve("max-num-batched-tokens: 64\nmax-num-seqs: 64").isEmpty)
    #expect(
        resolve("max-num-batched-tokens: 63\nmax-num-seqs: 64") == [
            "max-num-batched-tokens (63) is less than max-num-seqs (64); a step gives every running sequence a token. "
                + "Raise the first or lower the second."
        ])
    #expect(
        resolve("kv-cache-memory-bytes: 1GiB\nnum-gpu-blocks-override: 9") == [
            "kv-cache-memory-bytes (1GiB) and num-gpu-blocks-override (9) both set the size of the KV cache. "
                + "Give one of them."
        ])
}

@Test func `variables for the tests, and those that Kubernetes injects for a service named apus, are passed over`() {
    let source = SettingSource(environment: [
        "APUS_PORT": "tcp://10.0.0.1:8000", "APUS_SERVICE_HOST": "10.0.0.1", "APUS_SERVICE_PORT_HTTP": "8000",
        "APUS_PORT_8000_TCP_ADDR": "10.0.0.1", "APUS_PORT_8000_TCP": "tcp://10.0.0.1:8000", "HOME": "/root",
        "APUS_TEST_MODEL": "m.gguf",
    ])
    #expect(source == SettingSource())
}

@Test(arguments: [
    ("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("abc", "acb", 1), ("port", "prot", 1), ("kitten", "sitting", 3),
])
func `edit distance counts insertions, deletions, substitutions and swaps`(a: String, b: String, distance: Int) {
    #expect(Suggestion.editDistance(a, b) == distance)
    #expect(Suggestion.editDistance(b, a) == distance)
}
