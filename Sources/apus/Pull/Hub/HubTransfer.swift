// One file from one address, by Python's standard library: it knows the machine's proxies and certificates, as the pip
// that catalog models come with does. What it brings is trusted with nothing; whoever asked counts and hashes it.

import Foundation
import JSON

/// A download that goes on where an earlier one ended.
struct HubTransfer {
    /// Python's path.
    let python: String
    let environment: [String: String]
    let token: String?

    /// How a try ended.
    private enum Outcome {
        case arrived
        case refused(status: Int, retryAfter: Int?)
        case failed(reason: String)
    }

    /// Appends to the file at `path` what the address has beyond it; the token goes to no other host.
    ///
    /// The address and the target are arguments, the token is not: arguments are everyone's to read.
    private static let script = """
        import json, os, sys, urllib.error, urllib.parse, urllib.request
        address, path, limit, outcome_path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
        def origin(text):
            parts = urllib.parse.urlsplit(text)
            return parts.scheme, parts.hostname, parts.port
        class Redirects(urllib.request.HTTPRedirectHandler):
            max_redirections = 8
            def redirect_request(self, request, response, code, message, headers, target):
                following = super().redirect_request(request, response, code, message, headers, target)
                if following is not None:
                    if request.type == "https" and following.type != "https":
                        raise urllib.error.URLError("it leads from https to " + following.type)
                    if origin(following.full_url) != origin(address):
                        following.remove_header("Authorization")
                return following
        start = os.path.getsize(path) if os.path.exists(path) else 0
        headers = {"User-Agent": "apus", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        if os.environ.get("APUS_HUB_TOKEN"):
            headers["Authorization"] = "Bearer " + os.environ["APUS_HUB_TOKEN"]
        outcome = {"status": 200}
        try:
            opener = urllib.request.build_opener(Redirects)
            with opener.open(urllib.request.Request(address, headers=headers), timeout=60) as response:
                place = response.headers.get("Content-Range") or ""
                goes_on = response.status == 206 and place.startswith(f"bytes {start}-")
                written = start if goes_on else 0
                with open(path, "ab" if goes_on else "wb") as output:
                    while piece := response.read(1 << 20):
                        written += len(piece)
                        if written > limit:
                            outcome = {"failure": f"it is longer than {limit} bytes"}
                            break
                        output.write(piece)
                        output.flush()
        except urllib.error.HTTPError as error:
            outcome = {"status": error.code, "after": error.headers.get("Retry-After") or ""}
        except Exception as error:
            outcome = {"failure": str(getattr(error, "reason", None) or error) or type(error).__name__}
        with open(outcome_path, "w") as output:
            json.dump(outcome, output)
        """

    /// How long to wait before each further try.
    private static let pauses: [Double] = [0.5, 2, 8]
    /// The longest wait that a busy server may ask for, in seconds.
    private static let maxRetryAfter = 30

    /// Brings the file at `address` to `path`, which holds what came before, up to `limit` bytes.
    /// - Parameter what: what the file is called in errors.
    func fetch(
        _ address: String, to path: String, limit: Int, what: String, work: String, isCancelled: () -> Bool
    ) throws(PullError) {
        for attempt in 0... {
            let outcome = try attemptOnce(address, to: path, limit: limit, work: work, isCancelled: isCancelled)
            let pause: Double
            switch outcome {
            case .arrived: return
            // What is there is longer than the file: it is not the file's beginning.
            case .refused(status: 416, _):
                try fileSystem("remove", path) { try FileManager.default.removeItem(atPath: path) }
                pause = 0
            case .refused(let status, let after):
                let isPassing = status == 429 || status >= 500
                guard isPassing, attempt < Self.pauses.count, after ?? 0 <= Self.maxRetryAfter else {
                    throw .hubRefused(what: what, status: status, retryAfter: after, hasToken: token != nil)
                }
                pause = after.map(Double.init) ?? Self.pauses[attempt]
            case .failed(let reason):
                guard attempt < Self.pauses.count else { throw .hubUnreachable(what: what, reason: reason) }
                pause = Self.pauses[attempt]
            }
            guard attempt < Self.pauses.count else { throw .hubUnreachable(what: what, reason: "it keeps changing") }
            let end = ContinuousClock.now + .seconds(pause)
            while ContinuousClock.now < end {
                guard !isCancelled() else { throw .interrupted }
                Thread.sleep(forTimeInterval: 0.05)
            }
        }
    }

    private func attemptOnce(
        _ address: String, to path: String, limit: Int, work: String, isCancelled: () -> Bool
    ) throws(PullError) -> Outcome {
        var environment = environment
        environment["HF_TOKEN"] = nil
        environment["APUS_HUB_TOKEN"] = token
        let outcome = "\(work)/outcome"
        let child = ChildProcess(
            executable: python, arguments: ["-I", "-c", Self.script, address, path, "\(limit)", outcome],
            environment: environment, folder: work)
        do throws(PullError) {
            try child.run(isCancelled: isCancelled, tick: {})
        } catch {
            throw error == .cancelled ? .interrupted : error
        }
        let output = [UInt8](FileManager.default.contents(atPath: outcome) ?? Data())
        guard let tree = Self.tree(output), case .object(let members) = tree else {
            return .failed(reason: "Python did not say how it ended")
        }
        func member(_ name: String) -> JSONValue { members.first { $0.name == name }?.value ?? .null }
        if case .string(let reason) = member("failure") { return .failed(reason: reason) }
        let status = member("status").exactInteger ?? 0
        if status == 200 { return .arrived }
        if case .string(let after) = member("after") { return .refused(status: status, retryAfter: Int(after)) }
        return .refused(status: status, retryAfter: nil)
    }

    private static func tree(_ output: [UInt8]) -> JSONValue? {
        do throws(JSONError) { return try JSONParser.parse(output) } catch { return nil }
    }
}
