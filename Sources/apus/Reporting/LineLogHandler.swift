// Log lines on standard error: plain text for people, or one JSON object each for collectors.

import Foundation
import Logging
import Synchronization

/// How log lines look.
package enum LogFormat: String, Sendable, CaseIterable {
    case text
    case json
}

/// Where lines go. A line that cannot be written is counted, and the count is told when lines flow again: whoever
/// reads the log must not stop the server by going away.
package final class LogSink: Sendable {
    private let unwritten = Mutex(0)
    private let output: @Sendable (String) throws -> Void

    /// - Parameter output: writes one line, its newline included.
    package init(_ output: @escaping @Sendable (String) throws -> Void) {
        self.output = output
    }

    /// Standard error.
    package static func standardError() -> LogSink {
        LogSink { try FileHandle.standardError.write(contentsOf: Data($0.utf8)) }
    }

    /// Writes `line` whole, whatever thread it comes from.
    package func write(_ line: String) {
        unwritten.withLock { unwritten in
            do {
                if unwritten > 0 { try output("(\(unwritten) log lines could not be written)\n") }
                unwritten = 0
                try output(line + "\n")
            } catch {
                unwritten += 1
            }
        }
    }
}

/// Formats events as lines.
package struct LineLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    private let format: LogFormat
    private let sink: LogSink
    private let clock: @Sendable () -> Date

    package init(
        level: Logger.Level, format: LogFormat, sink: LogSink, clock: @escaping @Sendable () -> Date = { Date() }
    ) {
        logLevel = level
        self.format = format
        self.sink = sink
        self.clock = clock
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { _, new in new }.sorted { $0.key < $1.key }
        switch format {
        case .text:
            // A message with several lines is several lines of log, each with its time and level.
            let suffix = fields.map { " \($0.key)=\(Self.plain($0.value))" }.joined()
            let time = Self.timestamp(clock())
            let lines = event.message.description.split(separator: "\n", omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() {
                let level = event.level.rawValue.padded(to: 7)
                sink.write("\(time) \(level) \(Self.printable(line))" + (index == lines.count - 1 ? suffix : ""))
            }
        case .json:
            let head = Self.jsonHead(level: event.level, message: event.message.description, time: clock())
            sink.write(JSONText.object(head + fields.map { ($0.key, Self.json($0.value)) }).line)
        }
    }

    /// The members that every JSON line begins with.
    package static func jsonHead(
        level: Logger.Level, message: String, time: Date = Date()
    ) -> [(String, JSONText)] {
        [("time", .string(timestamp(time))), ("level", .string(level.rawValue)), ("message", .string(message))]
    }

    private static func timestamp(_ time: Date) -> String {
        time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    private static func plain(_ value: Logger.MetadataValue) -> String {
        let text = printable("\(value)")
        return text.contains(" ") ? JSONText.string(text).line : text
    }

    /// Control characters would let a value forge a line or drive a terminal.
    private static func printable(_ text: some StringProtocol) -> String {
        guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
            return String(text)
        }
        return text.unicodeScalars.map { scalar in
            scalar.properties.generalCategory == .control ? "\\u{\(String(scalar.value, radix: 16))}" : String(scalar)
        }.joined()
    }

    private static func json(_ value: Logger.MetadataValue) -> JSONText {
        switch value {
        case .string(let text): .string(text)
        case .stringConvertible(let value): .string(value.description)
        case .array(let values): .array(values.map(json))
        case .dictionary(let fields): .object(fields.sorted { $0.key < $1.key }.map { ($0.key, json($0.value)) })
        }
    }
}
