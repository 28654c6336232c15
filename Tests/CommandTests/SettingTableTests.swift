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

@Test func `the help of serve is as recorded and fits two screens`() throws {
    let help = ApusCommand.helpMessage(for: ServeCommand.self, columns: 80)
    #expect(help.split(separator: "\n", omittingEmptySubsequences: false).count <= 140)
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
