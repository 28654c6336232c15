// What the system knows of this process, under the names every Prometheus client library gives them. Read from /proc
// at each scrape; where there is none, the figures are absent.

import FoundationEssentials

/// Reads the figures of the process.
struct ProcessFigures: Sendable {
    /// The unit of times in /proc, which Linux fixes for programs whatever its timer does.
    private static let ticksPerSecond = 100.0

    private let startTime: Double?
    private let maxFiles: Double?

    init() {
        startTime = Self.startTime()
        let limits = Self.lines("/proc/self/limits").first { $0.hasPrefix("Max open files") }
        maxFiles = limits.flatMap { $0.split(separator: " ").dropFirst(3).first }.flatMap { Double($0) }
    }

    /// Writes all of them.
    func write(to metrics: inout Metrics) {
        let fields = Self.statistics()
        func write(_ name: String, _ type: String, _ help: String, _ value: Double?) {
            guard let value else { return }
            metrics.family(name, type, help)
            metrics.sample(name, "", value)
        }
        let ticks =
            fields.count > 12 ? Double(fields[11]).flatMap { user in Double(fields[12]).map { user + $0 } } : nil
        write(
            "process_cpu_seconds_total", "counter", "Processor time of user and system.",
            ticks.map { $0 / Self.ticksPerSecond })
        let status = Self.lines("/proc/self/status")
        write(
            "process_resident_memory_bytes", "gauge", "Memory that is resident.", Self.kilobytes("VmRSS:", in: status))
        write("process_virtual_memory_bytes", "gauge", "Memory that is mapped.", Self.kilobytes("VmSize:", in: status))
        write("process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.", startTime)
        write("process_open_fds", "gauge", "Open file descriptors.", Self.openFiles())
        write("process_max_fds", "gauge", "File descriptors that may be open.", maxFiles)
    }

    private static func startTime() -> Double? {
        let boot = lines("/proc/stat").first { $0.hasPrefix("btime ") }.flatMap { Double($0.dropFirst(6)) }
        let fields = statistics()
        guard let boot, fields.count > 19, let ticks = Double(fields[19]) else { return nil }
        return boot + ticks / ticksPerSecond
    }

    /// The fields of /proc/self/stat from the state on, which is the third; the name before it may hold anything.
    private static func statistics() -> [Substring] {
        let text = lines("/proc/self/stat").first ?? ""
        guard let parenthesis = text.lastIndex(of: ")") else { return [] }
        return text[text.index(after: parenthesis)...].split(separator: " ")
    }

    private static func kilobytes(_ name: String, in lines: [Substring]) -> Double? {
        lines.first { $0.hasPrefix(name) }.flatMap { $0.split(whereSeparator: \.isWhitespace).dropFirst().first }
            .flatMap { Double($0) }.map { $0 * 1024 }
    }

    private static func openFiles() -> Double? {
        do {
            // One of them is the folder itself.
            return Double(try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count - 1)
        } catch {
            return nil
        }
    }

    private static func lines(_ path: String) -> [Substring] {
        guard let data = FileManager.default.contents(atPath: path) else { return [] }
        return String(decoding: data, as: UTF8.self).split(separator: "\n")
    }
}
