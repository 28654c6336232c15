// `apus serve`: a model behind the OpenAI API, until a signal drains it.

import ArgumentParser
import Foundation
import Logging
import Models
import Serving

package struct ServeCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve a model over HTTP.",
        discussion: """
            Each option is also an environment variable (--max-num-seqs is APUS_MAX_NUM_SEQS) and a key of the \
            YAML file (max-num-seqs: 32). A flag wins over a variable, a variable over the file. Numbers take \
            k, m, g and K, M, G.
            """)

    @OptionGroup var options: ServeOptions
    @Flag(help: "Show every setting, its value and its origin, and end.") var printConfig = false
    @Flag(help: "Print it as JSON.") var json = false

    package init() {}

    package func validate() throws {
        if json && !printConfig { throw ValidationError("--json goes with --print-config.") }
    }

    package func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: options.source, environment: environment, required: printConfig ? [] : [.requiredModel])
        if printConfig {
            let listing = ConfigurationListing(settings)
            print(json ? listing.json.lines : listing.table)
            return
        }
        // Whoever reads our log or our sockets may go away; writes then fail instead of ending the process.
        signal(SIGPIPE, SIG_IGN)
        let sink = LogSink.standardError()
        let handler = LineLogHandler(
            level: settings.choice(.logLevel), format: settings.choice(.logFormat), sink: sink)
        let logger = Logger(label: "apus") { _ in handler }
        let located = try ModelLocator.locate(
            settings.text(.model) ?? "", home: settings.text(.home), environment: environment)
        let keys = try APIKeys(settings)
        let certificates = try TLSCertificates.configured(settings)
        for concern in AccessConcerns.all(settings, keys: keys, certificates: certificates) {
            logger.warning("\(concern)")
        }
        // After a pull, which takes them itself.
        let signals = await ShutdownSignals.taken(logger: logger)
        logger.info("Loading \(located.path)")
        let running = try await RunningModel.start(path: located.path, settings: settings)
        if let known = located.selfTest {
            let begin = ContinuousClock.now
            try await SelfTest.run(known, on: running)
            let milliseconds = Int(begin.duration(to: .now) / .milliseconds(1))
            logger.info("The self-test passed: \(known.tokens.count) known tokens in \(milliseconds) ms")
        }
        for note in running.device.notes(environment: environment) { logger.notice("\(note)") }
        try await ServerAssembly(
            settings: settings, modelName: located.name, running: running, keys: keys, certificates: certificates,
            signals: signals, logger: logger, sink: sink
        ).run()
    }
}

extension RequiredSetting {
    /// The one setting without a default.
    package static let requiredModel = RequiredSetting(
        setting: .model, repair: "Name it after `apus serve`, as APUS_MODEL, or as `model:` in the file.")
}
