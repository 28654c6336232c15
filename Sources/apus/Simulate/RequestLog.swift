// A log of requests, one JSON object per line, as the scheduler's replay wants it.

import ArgumentParser
import Foundation
import Scheduling

/// The requests of a log, by arrival.
struct RequestLog {
    private struct Line: Decodable {
        let arrival: Double
        let promptTokens: Int
        let outputTokens: Int
        let tenant: String?
        let priority: Int?
        let deadline: Double?
        let prefix: String?
        let prefixTokens: Int?
    }

    /// Far more than any model takes; a longer one is a mistake in the log.
    private static let mostTokens = 1 << 22

    let requests: [ReplayedRequest]

    /// Reads a file, or standard input for "-".
    init(reading path: String) throws {
        if path == "-" {
            try self.init(FileHandle.standardInput.readToEnd() ?? Data())
            return
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ValidationError("\(path) cannot be read. Name a file of JSON lines, or - for standard input.")
        }
        try self.init(data)
    }

    init(_ data: Data) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        var tenants: [String: UInt64] = [:]
        var prefixes: [String: Int] = [:]
        var requests: [ReplayedRequest] = []
        for (index, text) in data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated()
        where !text.allSatisfy({ $0 == 0x20 || $0 == 0x0d }) {
            let line: Line
            do { line = try decoder.decode(Line.self, from: Data(text)) } catch {
                throw ValidationError("Line \(index + 1) is not a request: \(error)")
            }
            let shared = min(line.prefixTokens ?? line.promptTokens, line.promptTokens)
            guard (0...1e9).contains(line.arrival), (1...Self.mostTokens).contains(line.promptTokens),
                (1...Self.mostTokens).contains(line.outputTokens), shared >= 0
            else {
                throw ValidationError(
                    "Line \(index + 1): arrival is from 0 seconds on, prompt_tokens and output_tokens from 1 to "
                        + "\(Self.mostTokens), prefix_tokens from 0 on.")
            }
            // Prompts are numbers: those of a prefix are the same for all who name it, the rest is like nothing else.
            let number = requests.count
            var prompt: [TokenID] = []
            if let prefix = line.prefix {
                let start = Self.mark(prefixes[prefix, default: prefixes.count], kind: 1)
                if prefixes[prefix] == nil { prefixes[prefix] = prefixes.count }
                prompt = (0..<shared).map { start &+ TokenID($0) }
            }
            let own = Self.mark(number, kind: 2)
            prompt += (prompt.count..<line.promptTokens).map { own &+ TokenID($0) }
            let tenant = line.tenant.map { name in
                let known = tenants[name] ?? UInt64(tenants.count + 1)
                tenants[name] = known
                return known
            }
            requests.append(
                ReplayedRequest(
                    arrival: .seconds(line.arrival), prompt: prompt, newTokens: line.outputTokens,
                    tenant: tenant ?? 0, priority: line.priority ?? 0,
                    deadline: line.deadline.map { .seconds(line.arrival + $0) }))
        }
        self.requests = requests.sorted { $0.arrival < $1.arrival }
    }

    /// The first of a run of tokens; runs of different numbers differ from their first token on.
    private static func mark(_ number: Int, kind: Int) -> TokenID {
        let hash = UInt64(number * 4 + kind) &* 0x9e37_79b9_7f4a_7c15
        return TokenID(truncatingIfNeeded: hash >> 34)
    }
}
