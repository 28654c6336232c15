// A hub on this machine: two Python servers that speak the hub's routes, the second being where large files redirect to.

import Foundation
import Synchronization
import Testing
import apus

/// A repository served from a temporary folder, and a folder to pull into.
final class HubWorld {
    let folder: String
    private let server = Process()
    /// The hub's address.
    private(set) var endpoint = ""
    static let commit = String(repeating: "c0ffee12", count: 5)

    var root: String { folder + "/home" }

    /// - Parameter rules: Python that runs for each request of the hub as `rule(handler, path)`; it returns a status
    ///   to refuse with, or None.
    init(files: [String: [UInt8]], rules: String = "return None") throws {
        folder = FileManager.default.temporaryDirectory.path + "/apus-hub-\(UUID().uuidString)"
        for (path, content) in files {
            let url = URL(filePath: "\(folder)/files/\(path)")
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(content).write(to: url)
        }
        let script = Self.script.replacingOccurrences(of: "RULES", with: rules)
        try Data(script.utf8).write(to: URL(filePath: folder + "/hub.py"))
        let pipe = Pipe()
        server.executableURL = URL(filePath: "/usr/bin/env")
        server.arguments = ["python3", folder + "/hub.py", folder]
        server.standardOutput = pipe
        server.standardError = FileHandle.nullDevice
        try server.run()
        let port = String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self)
        endpoint = "http://127.0.0.1:" + port.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    deinit {
        // The child has this process's ignored signals, so asking it politely may not reach it.
        kill(server.processIdentifier, SIGKILL)
        server.waitUntilExit()
        do { try FileManager.default.removeItem(atPath: folder) } catch { Issue.record(error) }
    }

    func environment(token: String? = nil) -> [String: String] {
        var environment = ProcessInfo.processInfo.environment
        environment["HF_ENDPOINT"] = endpoint
        environment["HF_TOKEN"] = token
        // Whatever proxy the machine has, this machine is not behind it.
        environment["no_proxy"] = "127.0.0.1"
        return environment
    }

    func puller(token: String? = nil, isCancelled: @escaping () -> Bool = { false }) throws -> HubPuller {
        try HubPuller(root: root, environment: environment(token: token), isCancelled: isCancelled)
    }

    /// One line per request: "hub GET /path range=… token=…".
    var requests: [String] {
        let text = FileManager.default.contents(atPath: folder + "/requests").map {
            String(decoding: $0, as: UTF8.self)
        }
        return (text ?? "").split(separator: "\n").map(String.init)
    }

    func content(_ path: String) -> [UInt8]? {
        FileManager.default.contents(atPath: "\(root)/hub/org/tiny/\(Self.commit)/\(path)").map { [UInt8]($0) }
    }

    /// What is in the repository's folder, the commit's own files without its name.
    var remains: [String] {
        let names = FileManager.default.enumerator(atPath: "\(root)/hub/org/tiny")?.allObjects as? [String]
        return (names ?? []).map { $0.replacingOccurrences(of: Self.commit, with: "C") }.sorted()
    }

    private static let script = """
        import hashlib, http.server, json, os, sys, threading, urllib.parse
        folder, commit = sys.argv[1], "\(commit)"
        counts = {}
        def note(who, handler):
            with open(folder + "/requests", "a") as log:
                print(who, handler.command, handler.path, "range=" + (handler.headers.get("Range") or "-"),
                      "token=" + (handler.headers.get("Authorization") or "-"), file=log)
        def rule(handler, path):
            counts[path] = count = counts.get(path, 0) + 1
            RULES
        class Plain(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments): pass
            def send(self, content):
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
                if start > len(content):
                    self.send_response(416); self.send_header("Content-Length", "0"); self.end_headers(); return
                self.send_response(206 if start else 200)
                if start: self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start)); self.end_headers()
                self.wfile.write(content[start:])
        class Store(Plain):
            def do_GET(self):
                note("store", self)
                self.send(open(folder + "/files/" + urllib.parse.unquote(self.path[1:]), "rb").read())
        class Hub(Plain):
            def refuse(self, status, *headers):
                self.send_response(status)
                for name, value in headers: self.send_header(name, value)
                self.send_header("Content-Length", "0"); self.end_headers()
            def do_GET(self):
                note("hub", self)
                path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
                status = rule(self, path)
                if status: return self.refuse(status, ("Retry-After", "1")) if status == 429 else self.refuse(status)
                if path.startswith("/api/models/org/tiny/revision/"):
                    siblings = []
                    for root, _, names in os.walk(folder + "/files"):
                        for name in names:
                            content = open(root + "/" + name, "rb").read()
                            entry = {"rfilename": os.path.relpath(root + "/" + name, folder + "/files"), "size": len(content),
                                     "blobId": hashlib.sha1(b"blob %d\\0" % len(content) + content).hexdigest()}
                            if name.endswith((".safetensors", ".gguf")):
                                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
                            siblings.append(entry)
                    if os.path.exists(folder + "/siblings"): siblings = json.load(open(folder + "/siblings"))
                    return self.send(json.dumps({"sha": commit, "siblings": siblings}).encode())
                prefix = f"/org/tiny/resolve/{commit}/"
                if not path.startswith(prefix) or not os.path.exists(folder + "/files/" + path[len(prefix):]): return self.refuse(404)
                name = path[len(prefix):]
                if name.endswith((".safetensors", ".gguf")):
                    return self.refuse(302, ("Location", f"http://127.0.0.1:{store.server_port}/{name}"))
                self.send(open(folder + "/files/" + name, "rb").read())
        store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
        hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=store.serve_forever, daemon=True).start()
        print(hub.server_port, flush=True)
        hub.serve_forever()
        """
}
