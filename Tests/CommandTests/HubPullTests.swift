// Pulling from a hub: what is chosen, what is sent where, what is kept, and what is said when it refuses.

import Foundation
import Testing
import apus

@Suite struct HubPullTests {
    private static let weights = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 5) }
    private static let files: [String: [UInt8]] = [
        "config.json": Array(#"{"model_type": "llama"}"#.utf8), "tokenizer.json": Array("{}".utf8),
        "chat_template.jinja": Array("{{ x }}".utf8), "model.safetensors": weights, "README.md": Array("Read.".utf8),
        "pytorch_model.bin": [0x80], "original/consolidated.safetensors": [1, 2, 3], "consolidated.safetensors": [4],
    ]

    private func repository(_ text: String = "hf:org/tiny") throws -> HubRepository { try HubRepository(text) }

    @Test func `a repository is pulled at one commit, verified, with a lock beside it`() throws {
        let world = try HubWorld(files: Self.files)
        var events: [PullEvent] = []
        let path = try world.puller().ensure(repository()) { events.append($0) }
        #expect(path == "\(world.root)/hub/org/tiny/\(HubWorld.commit)")
        #expect(
            world.remains == [
                ".lock", "C", "C/apus.lock.json", "C/chat_template.jinja", "C/config.json", "C/model.safetensors",
                "C/tokenizer.json", "ref-main",
            ])
        #expect(world.content("model.safetensors") == Self.weights)
        let lock = String(decoding: world.content("apus.lock.json") ?? [], as: UTF8.self)
        #expect(lock.contains(digest(Self.weights)) && lock.contains(HubWorld.commit))
        #expect(HubPuller.pulled(try repository(), root: world.root) == path)
        #expect(HubPuller.pulled(try repository("org/tiny@other"), root: world.root) == nil)
        #expect(events.contains { if case .finished = $0 { true } else { false } })

        let count = world.requests.count
        #expect(try world.puller().ensure(repository()) { _ in } == path)
        #expect(world.requests.count == count + 1, "the second pull asks for the list alone")
    }

    @Test func `the token goes to the hub and to nobody it redirects to`() throws {
        let world = try HubWorld(files: Self.files)
        _ = try world.puller(token: "hf_secret").ensure(repository()) { _ in }
        let hub = world.requests.filter { $0.hasPrefix("hub") }
        let store = world.requests.filter { $0.hasPrefix("store") }
        #expect(hub.count == 5 && hub.allSatisfy { $0.hasSuffix("token=Bearer hf_secret") })
        #expect(store.count == 1 && store.allSatisfy { $0.hasSuffix("token=-") })
    }

    @Test func `a file that has partly arrived goes on from there`() throws {
        let world = try HubWorld(files: Self.files)
        let folder = "\(world.root)/hub/org/tiny/\(HubWorld.commit)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(Self.weights[..<100_000]).write(to: URL(filePath: folder + "/.part-model.safetensors"))
        _ = try world.puller().ensure(repository()) { _ in }
        #expect(world.requests.contains { $0.hasPrefix("store") && $0.contains("range=bytes=100000-") })
        #expect(world.content("model.safetensors") == Self.weights)
    }

    @Test func `a part that is not the file's beginning is found out and not kept`() throws {
        let world = try HubWorld(files: Self.files)
        let folder = "\(world.root)/hub/org/tiny/\(HubWorld.commit)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(repeating: 7, count: 1_000).write(to: URL(filePath: folder + "/.part-model.safetensors"))
        let error = #expect(throws: PullError.self) { try world.puller().ensure(repository()) { _ in } }
        #expect(error?.description.hasPrefix("model.safetensors is refused: the download's digest is ") == true)
        #expect(!world.remains.contains("C/model.safetensors") && !world.remains.contains("C/.part-model.safetensors"))
        _ = try world.puller().ensure(repository()) { _ in }
        #expect(world.content("model.safetensors") == Self.weights)
    }

    @Test func `a pull that is cancelled keeps what has arrived`() throws {
        let world = try HubWorld(files: Self.files, rules: "import time; time.sleep(0.3); return None")
        var calls = 0
        let error = #expect(throws: PullError.self) {
            try world.puller(isCancelled: {
                calls += 1; return calls > 12
            }).ensure(repository()) { _ in }
        }
        #expect(error == .interrupted)
        _ = try world.puller().ensure(repository()) { _ in }
        #expect(world.content("config.json") == Self.files["config.json"])
    }

    @Test(
        arguments: [
            (401, nil, "The hub wants to know who asks for org/tiny at main. Set HF_TOKEN to a token of yours."),
            (
                401, "x",
                "The hub wants to know who asks for org/tiny at main. It does not accept HF_TOKEN; make a new one."
            ),
            (403, "x", "The hub does not give you org/tiny at main. Accept the model's terms on its page."),
            (
                404, nil,
                "The hub has no org/tiny at main. Check the name and the revision; a private model needs HF_TOKEN."
            ),
            (429, nil, "The hub is asked too often for org/tiny at main. Try again in 1 s."),
        ] as [(Int, String?, String)])
    func `a refusal says what to do`(refusal: (status: Int, token: String?, text: String)) throws {
        let world = try HubWorld(files: Self.files, rules: "return \(refusal.status)")
        let error = #expect(throws: PullError.self) {
            try world.puller(token: refusal.token).ensure(repository()) { _ in }
        }
        #expect(error?.description == refusal.text)
    }

    @Test func `a hub that is busy once is asked again`() throws {
        let world = try HubWorld(
            files: Self.files, rules: "return 503 if count == 1 and 'config' in path else 429 if count == 1 else None")
        _ = try world.puller().ensure(repository()) { _ in }
        #expect(world.content("config.json") == Self.files["config.json"])
    }

    @Test func `one file is pulled by its name, and a GGUF file with its parts`() throws {
        let files: [String: [UInt8]] = [
            "a-00001-of-00002.gguf": [1], "a-00002-of-00002.gguf": [2], "b.gguf": [3], "config.json": [0x7B, 0x7D],
        ]
        let world = try HubWorld(files: files)
        let error = #expect(throws: PullError.self) { try world.puller().ensure(repository()) { _ in } }
        #expect(
            error?.description
                == "org/tiny has no safetensors files to choose. Name one with --file: a-00001-of-00002.gguf, "
                + "a-00002-of-00002.gguf, b.gguf.")
        let path = try world.puller().ensure(repository(), file: "a-00001-of-00002.gguf") { _ in }
        #expect(path.hasSuffix("/a-00001-of-00002.gguf"))
        #expect(world.content("a-00002-of-00002.gguf") == [2] && world.content("b.gguf") == nil)
    }

    @Test(arguments: [
        "../../etc/evil.json", "/etc/evil.json", "a/../b.json", ".hidden.json", "a\\b.json", "a/b/c/d/e.json",
        "x\u{7}.json",
    ])
    func `a name that leads elsewhere is refused, whoever says it`(path: String) throws {
        let world = try HubWorld(files: Self.files)
        let siblings = [["rfilename": path, "size": 1, "blobId": String(repeating: "0", count: 40)] as [String: Any]]
        try JSONSerialization.data(withJSONObject: siblings).write(to: URL(filePath: world.folder + "/siblings"))
        let error = #expect(throws: PullError.self) { try world.puller().ensure(repository()) { _ in } }
        #expect(error?.description.contains("is no path for a file") == true)
    }

    @Test(arguments: [
        "hf:", "hf:org", "hf:org/", "hf:/name", "hf:org/name/more", "hf:../name", "hf:org/..", "hf:org/na..me",
        "hf:org/name@", "hf:org/name@../main", "hf:org/name@a//b", "hf:org/-name", "hf:org/name.", "hf:org/na me",
        "hf:org/name?x", "hf:org/na%2Fme", "hf:org/näme", "hf:org/name@main#x",
    ])
    func `what is no repository's name is refused`(text: String) {
        #expect(throws: PullError.badRepository(text)) { try HubRepository(text) }
    }

    @Test func `a repository is meant where it is said, or where nothing else can be`() throws {
        #expect(HubRepository.isMeant(by: "hf:anything"))
        #expect(HubRepository.isMeant(by: "org/name") && HubRepository.isMeant(by: "org/name@v1.0"))
        #expect(!HubRepository.isMeant(by: "models/file.gguf") && !HubRepository.isMeant(by: "./org/name"))
        #expect(!HubRepository.isMeant(by: "/org/name") && !HubRepository.isMeant(by: "smollm2"))
        #expect(try HubRepository("org/name@refs/pr/1").revision == "refs/pr/1")
    }

    @Test func `a token does not travel in the clear`() throws {
        #expect(throws: PullError.self) {
            try HubAccess(environment: ["HF_ENDPOINT": "http://hub.example", "HF_TOKEN": "x"])
        }
        #expect(throws: PullError.self) { try HubAccess(environment: ["HF_ENDPOINT": "ftp://hub.example"]) }
        #expect(try HubAccess(environment: [:]).endpoint == "https://huggingface.co")
        #expect(try HubAccess(environment: ["HF_ENDPOINT": "https://hub.example/"]).endpoint == "https://hub.example")
    }
}
