// How much of the machine the process may take: memory and cores, as the kernel says, or less where a control group (a
// container, a systemd unit) allows less.

import Foundation

package enum MachineMemory {
    /// Bytes the process may take, measured now.
    package static func availableBytes() -> Int {
        let machine =
            ControlGroup.read("/proc/meminfo").flatMap { memAvailable(in: $0) }
            ?? Int(ProcessInfo.processInfo.physicalMemory)
        let headrooms = ControlGroup.folders.compactMap { folder in
            groupHeadroom(
                limit: ControlGroup.read("\(folder)/memory.max"),
                current: ControlGroup.read("\(folder)/memory.current"),
                statistics: ControlGroup.read("\(folder)/memory.stat"))
        }
        return min(machine, headrooms.min() ?? machine)
    }

    /// The bytes of the MemAvailable line of /proc/meminfo.
    package static func memAvailable(in text: String) -> Int? {
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
            let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else { return nil }
        let (bytes, overflow) = kibibytes.multipliedReportingOverflow(by: 1024)
        return overflow || bytes < 0 ? nil : bytes
    }

    /// What a control group's limit leaves; the page cache of files counts as free. Nil without a limit.
    package static func groupHeadroom(limit: String?, current: String?, statistics: String?) -> Int? {
        guard let limit = limit.flatMap(number), let current = current.flatMap(number) else { return nil }
        let reclaimable =
            statistics?.split(separator: "\n")
            .first { $0.hasPrefix("inactive_file ") }
            .flatMap { number(String($0.dropFirst("inactive_file ".count))) } ?? 0
        return max(0, limit - max(0, current - reclaimable))
    }

    private static func number(_ text: String) -> Int? {
        Int(text.trimmingCharacters(in: .whitespacesAndNewlines)).flatMap { $0 >= 0 ? $0 : nil }
    }
}

/// How many cores the process may keep busy.
package enum MachineCores {
    /// The cores it may run on, or fewer where a control group's quota pays for fewer.
    package static func available() -> Int {
        let quotas = ControlGroup.folders.compactMap { quota(in: ControlGroup.read("\($0)/cpu.max")) }
        return min(ProcessInfo.processInfo.activeProcessorCount, quotas.min() ?? .max)
    }

    /// The cores that a `cpu.max` line ("quota period", both in µs) pays for, rounded up; nil without a limit.
    package static func quota(in text: String?) -> Int? {
        guard let parts = text?.split(whereSeparator: \.isWhitespace), parts.count == 2, let quota = Int(parts[0]),
            let period = Int(parts[1]), quota > 0, period > 0
        else { return nil }
        return max(1, quota / period + (quota % period > 0 ? 1 : 0))
    }
}

/// The control groups (version 2) the process is in.
private enum ControlGroup {
    /// Folders of its own group and of those above it, whose limits all hold. In a container its own is the root.
    static var folders: [String] {
        let root = "/sys/fs/cgroup"
        guard let line = read("/proc/self/cgroup")?.split(separator: "\n").first(where: { $0.hasPrefix("0::/") }) else {
            return [root]
        }
        var folders = [root]
        for name in line.dropFirst("0::/".count).split(separator: "/") where name != ".." {
            folders.append("\(folders[folders.count - 1])/\(name)")
        }
        return folders
    }

    /// The text of a file of the kernel, or nil where there is none.
    static func read(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).flatMap { String(validating: $0, as: UTF8.self) }
    }
}
