// What an operator says of adapters, and which paths of clients lead to one.

import Foundation
import Testing
import apus

private func problems(_ settings: (Setting, [String])...) -> [String] {
    var flags = SettingSource()
    flags.given = settings.map { GivenSetting($0.0.name, $0.1, from: .flag) }
    return problems { try ResolvedSettings.resolve(sources: [flags]) }
}

@Test func `adapters need room, a name and a folder each, and no more than there may be`() {
    #expect(problems((.enableLoRA, ["true"]), (.loraModules, ["a=x", "b=/y=z"])) == [])
    #expect(
        problems((.loraModules, ["a=x"]), (.loraDir, ["/x"])) == [
            "lora-modules and lora-dir without enable-lora: there is no room for adapters. Give --enable-lora too."
        ])
    #expect(
        problems((.enableLoRA, ["true"]), (.loraModules, ["a"])) == [
            "lora-modules has 'a', but each must be name=folder."
        ])
    #expect(
        problems((.enableLoRA, ["true"]), (.loraModules, ["a=x", "a=y"])) == [
            "lora-modules names 'a' twice. Give each adapter a name of its own."
        ])
    #expect(problems((.enableLoRA, ["true"]), (.maxLoRAs, ["2"]), (.loraModules, ["a=x", "b=x"])) == [])
    #expect(
        problems((.enableLoRA, ["true"]), (.maxLoRAs, ["2"]), (.loraModules, ["a=x", "b=x", "c=x"])) == [
            "lora-modules has 3 adapters, but max-loras is 2. Raise it to 3."
        ])
    for (setting, limit) in [(Setting.maxLoRAs, 64), (.maxLoRARank, 256)] {
        #expect(problems((setting, ["\(limit)"])).isEmpty)
        #expect(problems((setting, ["\(limit + 1)"])).count == 1)
        #expect(problems((setting, ["0"])).count == 1)
    }
}

@Test func `a client's path leads to what lies in the folder, and to nothing else`() throws {
    let base = FileManager.default.temporaryDirectory.appending(path: "adapters-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: base) }
    let root = base.appending(path: "inside")
    for name in ["inside/a", "inside/deep/b", "inside-beside", "outside"] {
        try FileManager.default.createDirectory(at: base.appending(path: name), withIntermediateDirectories: true)
    }
    try FileManager.default.createSymbolicLink(
        at: root.appending(path: "link"), withDestinationURL: base.appending(path: "outside"))
    try FileManager.default.createSymbolicLink(
        at: root.appending(path: "own"), withDestinationURL: root.appending(path: "deep"))
    let folder = root.path(percentEncoded: false)
    func found(_ path: String) -> String? { AdapterFolder.resolve(path, in: folder) }
    #expect(found("a")?.hasSuffix("/inside/a") == true)
    #expect(found("deep/b") == found("own/b") && found("deep/b") != nil)
    #expect(found(folder + "/a") == found("a"))
    for path in [
        "", ".", "/", "link", "../outside", "a/../../outside", base.path() + "/outside", folder + "-beside", "/etc",
    ] {
        #expect(found(path) == nil, "\(path)")
    }
}
