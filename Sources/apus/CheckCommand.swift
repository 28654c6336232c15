// `apus check`: is this configuration right, and does the model fit? Nothing is fetched, loaded or served.

import ArgumentParser
import Checkpoints
import Foundation
import Serving

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check a configuration without serving.",
        discussion: "Takes the options of serve. Exits with 0, or with 78 after naming every problem.")

    @OptionGroup var options: ServeOptions
    @Flag(help: "Report as JSON.") var json = false

    func run() throws {
        let environment = ProcessInfo.processInfo.environment
        do {
            let settings = try ResolvedSettings.resolve(
                flags: options.source, environment: environment, required: [.requiredModel])
            let keys = try APIKeys(settings)
            let certificates = try TLSCertificates.configured(settings)
            let concerns = AccessConcerns.all(settings, keys: keys, certificates: certificates)
            for module in settings.texts(.loraModules).compactMap({ AdapterModule($0) }) {
                // Whether it fits the model is seen when both are loaded.
                _ = try AdapterCheckpoint(path: module.path, maxRank: settings.number(.maxLoRARank))
            }
            let plan = try fit(settings, environment: environment)
            if json {
                let members: [(String, JSONText)] = [
                    ("valid", .boolean(true)), ("model", plan?.json ?? .null),
                    ("concerns", .array(concerns.map { .string($0) })),
                    ("settings", ConfigurationListing(settings).json),
                ]
                print(JSONText.object(members).line)
            } else {
                print(ConfigurationListing(settings).table)
                print("\n" + (plan?.cacheLine ?? "The model is not here yet; `apus pull` fetches it."))
                for concern in concerns { print("\n" + concern) }
            }
        } catch {
            guard json, ExitStatus(error) == .configuration else { throw error }
            let problems = (error as? ConfigurationError)?.problems.map(\.description) ?? ["\(error)"]
            print(
                JSONText.object([
                    ("valid", .boolean(false)), ("problems", .array(problems.map { .string($0) })),
                ]).line)
            throw ExitCode(ExitStatus.configuration.rawValue)
        }
    }

    /// Opens the model, where it is here, and sizes its cache.
    private func fit(_ settings: ResolvedSettings, environment: [String: String]) throws -> Inspection? {
        guard
            let located = try ModelLocator.locateHere(
                settings.text(.model) ?? "", home: settings.text(.home), environment: environment)
        else { return nil }
        return try Inspection(path: located.path, settings: settings)
    }
}
