// A server as a process of its own, for what can only be seen from outside: how long it takes to serve, and how much
// memory it holds. It is listened to until it says where it can be reached.

import Foundation
import JSON
import Synchronization

/// `apus serve` in a process that is ended with this object's `stop`.
package final class ServerProcess: Sendable {
    private let process: Process
    private let output: ServerOutput
    /// What was run, for messages.
    private let command: String

    /// Starts `executable serve model …` on a free port.
    /// - Throws: `LoadError.didNotStart`.
    package init(
        executable: String, model: String, arguments: [String], environment: [String: String]
    ) throws(LoadError) {
        let words = ["serve", model, "--host", "127.0.0.1", "--port", "0", "--log-format", "json"] + arguments
        command = ([executable] + words).joined(separator: " ")
        process = Process()
        output = ServerOutput()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = words
        process.environment = environment
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = pipe
        // Read to its end, so that a server that logs never waits for a reader.
        pipe.fileHandleForReading.readabilityHandler = { [output] handle in
            let data = handle.availableData
            if data.isEmpty { handle.readabilityHandler = nil }
            output.take(data)
        }
        do { try process.run() } catch {
            throw .didNotStart(command: command, reason: error.localizedDescription)
        }
    }

    /// Waits until it listens, and returns its address and the name of its model.
    /// - Throws: `LoadError.didNotStart` when it ends or does not listen in time.
    package func waitUntilReady(timeout: Duration = .seconds(600)) async throws -> (address: String, model: String) {
        let deadline = ContinuousClock.now + timeout
        while true {
            if let ready = output.ready { return ready }
            guard process.isRunning else {
                throw LoadError.didNotStart(command: command, reason: "it ended: \(output.lastLine)")
            }
            guard ContinuousClock.now < deadline else {
                throw LoadError.didNotStart(command: command, reason: "it was not ready in \(timeout)")
            }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    /// Bytes of resident memory now, and the most there were; nil where the system does not tell.
    package var memory: (resident: Int, peak: Int)? {
        let path = "/proc/\(process.processIdentifier)/status"
        guard let data = FileManager.default.contents(atPath: path) else { return nil }
        var kibibytes: [Substring: Int] = [:]
        for line in String(decoding: data, as: UTF8.self).split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == ":" || $0.isWhitespace })
            if words.count > 1, let count = Int(words[1]) { kibibytes[words[0]] = count }
        }
        guard let resident = kibibytes["VmRSS"], let peak = kibibytes["VmHWM"] else { return nil }
        return (resident: resident * 1024, peak: peak * 1024)
    }

    /// Ends the server and waits for its end.
    package func stop() {
        if process.isRunning { process.terminate() }
        process.waitUntilExit()
    }
}

/// What a server has said.
private final class ServerOutput: Sendable {
    private struct State {
        var rest = Data()
        var lastLine = "it said nothing"
        var ready: (address: String, model: String)?
    }

    private let state = Mutex(State())

    var ready: (address: String, model: String)? { state.withLock(\.ready) }
    var lastLine: String { state.withLock(\.lastLine) }

    func take(_ data: Data) {
        state.withLock { state in
            state.rest.append(data)
            while let end = state.rest.firstIndex(of: UInt8(ascii: "\n")) {
                let line = Array(state.rest[..<end])
                state.rest = Data(state.rest[(end + 1)...])
                state.lastLine = String(decoding: line.prefix(1000), as: UTF8.self)
                if state.ready == nil { state.ready = Self.ready(line) }
            }
        }
    }

    /// What the report says that a server logs when it listens.
    private static func ready(_ line: [UInt8]) -> (address: String, model: String)? {
        do throws(JSONError) {
            guard let report = try JSONParser.parse(line)["report"], case .string(let address)? = report["address"],
                case .array(let names)? = report["served_model_names"], case .string(let model)? = names.first
            else { return nil }
            return (address: address, model: model)
        } catch {
            // A line that is not JSON is not the report.
            return nil
        }
    }
}
