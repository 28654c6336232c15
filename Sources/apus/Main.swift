// The entry of the executable: picks the command, and turns whatever it throws into one message and one exit code.

import ArgumentParser
import Foundation

@main
struct Main {
    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        do {
            var command = try ApusCommand.parseAsRoot(ListArguments.spelledOut(arguments))
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            ApusCommand.end(with: error, after: arguments)
        }
    }
}

/// The root: holds the commands.
package struct ApusCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "apus",
        abstract: "An LLM text-generation server with an OpenAI-compatible API.",
        version: Version.current,
        subcommands: [
            ServeCommand.self, GenerateCommand.self, InspectCommand.self, BenchCommand.self, PullCommand.self,
            CheckCommand.self, VerifyCommand.self, SimulateCommand.self,
        ])

    package init() {}

    /// Says what went wrong and ends the process with the status for it.
    static func end(with error: any Error, after arguments: [String]) -> Never {
        // Help, --version and what the parser itself refuses carry their own text and code (0 and 64).
        let code = exitCode(for: error)
        if code == .validationFailure, ListArguments.areSettings(arguments),
            let message = Suggestion.improving(fullMessage(for: error))
        {
            FileHandle.standardError.write(Data((message + "\n").utf8))
            Foundation.exit(code.rawValue)
        }
        if code == .success || code == .validationFailure || error is ExitCode { exit(withError: error) }
        FileHandle.standardError.write(Data("apus: \(error)\n".utf8))
        Foundation.exit(ExitStatus(error).rawValue)
    }
}
