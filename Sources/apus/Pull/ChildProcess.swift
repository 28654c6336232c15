// Runs another program without a shell, watching the clock and the caller's wish to stop.

import Foundation

/// A program, its arguments and where it runs.
struct ChildProcess {
    let executable: String
    let arguments: [String]
    let environment: [String: String]
    /// The working folder; what the program says on standard error is kept there while it runs.
    let folder: String

    /// Runs the program to its end, discarding what it writes to standard output.
    ///
    /// - Parameters:
    ///   - isCancelled: asked several times a second; true ends the program.
    ///   - tick: called several times a second.
    func run(isCancelled: () -> Bool, tick: () -> Void) throws(PullError) {
        let process = try start(output: FileHandle.nullDevice)
        try finish(process, isCancelled: isCancelled, tick: tick)
    }

    /// Runs the program to its end, giving `output` what it writes to standard output in pieces. An error thrown by
    /// `output` ends the program.
    func stream(isCancelled: () -> Bool, output: (Data) throws(PullError) -> Void) throws(PullError) {
        let pipe = Pipe()
        let process = try start(output: pipe)
        do throws(PullError) {
            try read(pipe.fileHandleForReading, isCancelled: isCancelled, output: output)
        } catch {
            stop(process)
            throw error
        }
        try finish(process, isCancelled: isCancelled, tick: {})
    }

    /// Where the program's standard error goes.
    private var log: String { "\(folder)/stderr" }

    /// - Parameter output: a `FileHandle` or a `Pipe`.
    private func start(output: Any) throws(PullError) -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = environment
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = try fileSystem("write", log) {
            try Data().write(to: URL(fileURLWithPath: log))
            return try FileHandle(forWritingTo: URL(fileURLWithPath: log))
        }
        try fileSystem("run", executable) { try process.run() }
        return process
    }

    private func finish(_ process: Process, isCancelled: () -> Bool, tick: () -> Void) throws(PullError) {
        while process.isRunning {
            guard !isCancelled() else {
                stop(process)
                throw .cancelled
            }
            Thread.sleep(forTimeInterval: 0.1)
            tick()
        }
        process.waitUntilExit()
        // An interrupt at the terminal reaches the program as well.
        guard !isCancelled() else { throw .cancelled }
        guard process.terminationStatus == 0, process.terminationReason == .exit else {
            throw .commandFailed(
                command: ([executable] + arguments.prefix(3)).joined(separator: " "),
                status: process.terminationStatus, output: lastLines(log))
        }
    }

    private func read(
        _ handle: FileHandle, isCancelled: () -> Bool, output: (Data) throws(PullError) -> Void
    ) throws(PullError) {
        while true {
            guard !isCancelled() else { throw .cancelled }
            let piece = try fileSystem("read from", executable) { try handle.read(upToCount: 1 << 20) }
            guard let piece, !piece.isEmpty else { return }
            try output(piece)
        }
    }

    /// Ends the program at once: all it can leave behind is in `folder`, and it inherits this process's ignored
    /// signals, so asking it politely may not reach it.
    private func stop(_ process: Process) {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }

    /// The last lines the program wrote, on one line and fit for a terminal.
    private func lastLines(_ log: String) -> String {
        let text =
            FileManager.default.contents(atPath: log).map { String(decoding: $0.suffix(4096), as: UTF8.self) } ?? ""
        let lines = text.split(whereSeparator: \.isNewline).suffix(3)
        return String(
            lines.joined(separator: " | ").unicodeScalars.filter { $0.properties.generalCategory != .control })
    }
}
