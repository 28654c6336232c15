// The table and everything made from it agree: flags, help, listing, reference page.

import ArgumentParser
import Foundation
import Testing
import apus

/// A text the setting accepts that is not its default.
private func otherText(_ setting: Setting) -> String {
    switch setting.kind {
    case .boolean: setting.defaultValue == .boolean(true) ? "false" : "true"
    case .integer(let range):
        if case .integer(let value) = setting.defaultValue, value > range.lowerBound {
            String(value - 1)
        } else {
            String(range.lowerBound + 3)
        }
    case .oneOf(let allowed): String(allowed[0])
    case .bytes(let range): String(range.lowerBound + 1)
    case .duration: "7s"
    case .choice(let words): words.last ?? ""
    case .fraction: "0.25"
    case .text, .path: setting.name == Setting.device.name ? "cpu" : "localhost"
    case .texts: setting.name == Setting.loraModules.name ? "one=a,two=b" : "one,two"
    case .bounds: "0.0005,0.01,1"
    }
}

@Test(arguments: Setting.all.map(\.name))
func `every setting can be given as a flag, a variable and a key`(name: String) throws {
    let setting = try #require(Setting.named(name))
    let text = otherText(setting)
    let expected = try setting.parse([text]).get()
    #expect(expected != setting.defaultValue)

    if setting.name != Setting.model.name {
        let arguments =
            switch setting.kind {
            case .boolean: [text == "true" ? setting.flag : "--no-\(name)"]
            default: [setting.flag, text]
            }
        let options = try ServeOptions.parse(arguments)
        #expect(options.source.given == [GivenSetting(name, [text], from: .flag)])
    }
    // What is about TLS means nothing without a certificate.
    let certificate = SettingSource(given: [GivenSetting("ssl-certfile", ["c.pem"], from: .flag)])
    // And what is about adapters nothing without room for them.
    let room = SettingSource(given: [GivenSetting("enable-lora", ["true"], from: .flag)])
    let others =
        (name.contains("ssl-") && name != "ssl-certfile" ? [certificate] : [])
        + (["lora-modules", "lora-dir"].contains(name) ? [room] : [])
    let variables = SettingSource(environment: [setting.environmentVariable: text])
    #expect(try ResolvedSettings.resolve(sources: [variables] + others)[setting].value == expected)
    guard setting.name != Setting.config.name else { return }
    let yaml = SettingSource(yaml: "\(name.replacing("-", with: "_")): \(text)", path: "apus.yaml")
    #expect(try ResolvedSettings.resolve(sources: [yaml] + others)[setting].value == expected)
}

@Test func `names are unique and aliases do not shadow them`() {
    let names = Setting.all.map(\.name)
    #expect(Set(names).count == names.count)
    let aliases = Setting.all.flatMap(\.aliases)
    #expect(Set(aliases).count == aliases.count)
    #expect(Set(aliases).isDisjoint(with: names))
}

@Test func `every default is a value of its setting`() throws {
    for setting in Setting.all where setting.defaultValue != .unset {
        #expect(try setting.parse([setting.describe(setting.defaultValue)]).get() == setting.defaultValue)
    }
}

@Test func `the model may be given as the argument, which wins over the file`() throws {
    let options = try ServeOptions.parse(["smollm2", "--served-model-name", "a", "--served-model-name", "b"])
    let file = SettingSource(yaml: "model: other\nserved-model-name: c", path: "apus.yaml")
    let settings = try ResolvedSettings.resolve(sources: [options.source, file])
    #expect(settings.text(.model) == "smollm2")
    #expect(settings.texts(.servedModelName) == ["a", "b"])
}

@Test(arguments: [
    ("serve m --served-model-name a b --port 1", "serve m --served-model-name a --served-model-name b --port 1"),
    ("serve m --served-model-name=a b", "serve m --served-model-name=a --served-model-name b"),
    ("check --port 1 m --ttft-buckets 1 2 3", "check --port 1 m --ttft-buckets 1 --ttft-buckets 2 --ttft-buckets 3"),
    // Before the model, the second word may be the model.
    ("serve --served-model-name a m", "serve --served-model-name a m"),
    ("serve m --enable-lora more", "serve m --enable-lora more"),
    ("serve m --port 1 more", "serve m --port 1 more"),
    ("serve m --served-model-name", "serve m --served-model-name"),
    ("serve m --unknown a b", "serve m --unknown a b"),
    ("bench m --served-model-name a b", "bench m --served-model-name a b"),
    ("", ""),
])
func `words behind a flag of a list are its values`(given: String, expected: String) {
    let spelled = ListArguments.spelledOut(given.split(separator: " ").map { String($0) })
    #expect(spelled.joined(separator: " ") == expected)
}

@Test(arguments: [
    ("Error: Unknown option '--tp'. Did you mean '--dtype'?\nUsage", "--tensor-parallel-size"),
    ("Error: Unknown option '--ctx-size'\nUsage", "--max-model-len"),
    ("Error: Unknown option '--max_num_seqs'\nUsage", "--max-num-seqs"),
])
func `an unknown flag is answered with ours, whoever's it is`(message: String, flag: String) throws {
    let name = try #require(message.firstMatch(of: /'(--[a-z_-]+)'/)).1
    #expect(Suggestion.improving(message) == "Error: Unknown option '\(name)'. Did you mean '\(flag)'?\nUsage")
    #expect(Suggestion.improving("Error: Unknown option '--xyzzy'") == nil)
    #expect(Suggestion.improving("Error: Missing value for '--port <n>'") == nil)
}

@Test(arguments: [
    (#"["https://a.example", "https://b.example"]"#, ["https://a.example", "https://b.example"]), (#"["*"]"#, ["*"]),
    ("[::1], b", ["[::1]", "b"]), ("a,b", ["a", "b"]),
])
func `a list may be one of JSON`(text: String, expected: [String]) throws {
    #expect(try Setting.allowedOrigins.parse([text]).get() == .texts(expected))
    #expect(throws: ConfigurationProblem.InvalidText.self) { try Setting.allowedOrigins.parse(["[1]"]).get() }
    #expect(throws: ConfigurationProblem.InvalidText.self) { try Setting.allowedOrigins.parse(["[]"]).get() }
}

@Test func `the help of serve is as recorded and fits two screens`() throws {
    let help = ApusCommand.helpMessage(for: ServeCommand.self, columns: 80)
    #expect(help.split(separator: "\n", omittingEmptySubsequences: false).count <= 146)
    try Golden("serve-help.txt").expect(help)
}

@Test func `the listing shows every value and where it came from`() throws {
    let options = try ServeOptions.parse(["smollm2-135m-instruct", "--port", "0", "--no-enable-prefix-caching"])
    let variables = SettingSource(environment: ["APUS_THREADS": "2", "APUS_KV_CACHE_MEMORY_BYTES": "1.5GiB"])
    let file = SettingSource(yaml: "# limits\nmax-num-seqs: 32\nserved-model-name: [a, b]", path: "apus.yaml")
    let listing = ConfigurationListing(
        try ResolvedSettings.resolve(sources: [options.source, variables, file]))
    try Golden("print-config.txt").expect(listing.table)
    try Golden("print-config.json").expect(listing.json.lines)
    // Tools read it: it must be JSON.
    let decoded = try JSONSerialization.jsonObject(with: Data(listing.json.line.utf8)) as? [[String: Any]]
    #expect(decoded?.count == Setting.all.count)
}

@Test func `the reference page is made from the table`() throws {
    let page = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../docs/configuration.md").standardizedFileURL
    try Golden(page).expect(SettingReference.markdown)
}
