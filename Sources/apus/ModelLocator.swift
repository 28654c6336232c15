// From what the operator called the model to what to open: the path of a file or a folder, a name of the catalog, or a
// repository of the hub. The last two are pulled when they are not here yet.

import Foundation
import Models

/// A model on this machine.
struct LocatedModel: Sendable, Equatable {
    /// What clients call it unless they are told otherwise.
    let name: String
    /// The GGUF file, or the Hugging Face folder.
    let path: String
    /// What it is known to say, for models of the catalog.
    var selfTest: CatalogSelfTest?
}

enum ModelLocator {
    /// The file or folder that `model` names.
    /// - Parameter home: where pulled models are kept; nil for the user's cache folder.
    /// - Throws: `StartupError.unknownModel`, `PullError`.
    static func locate(_ model: String, home: String?, environment: [String: String]) throws -> LocatedModel {
        if let found = try locateHere(model, home: home, environment: environment) { return found }
        let (catalog, store) = try catalog(home: home, environment: environment)
        if let entry = catalog[model] {
            let paths = try PullCommand.pull(
                entry.name, from: catalog, into: store, environment: environment, json: false)
            if let path = paths.first { return LocatedModel(name: entry.name, path: path, selfTest: entry.selfTest) }
        }
        guard HubRepository.isMeant(by: model) else {
            throw StartupError.unknownModel(model, known: catalog.entries.map(\.name))
        }
        let repository = try HubRepository(model)
        let path = try PullCommand.pull(
            repository, file: nil, into: store.root, environment: environment, json: false)
        return LocatedModel(name: "\(repository)", path: path)
    }

    /// The same, without fetching anything: nil when the model can be pulled but is not here.
    static func locateHere(
        _ model: String, home: String?, environment: [String: String]
    ) throws -> LocatedModel? {
        let known = try Catalog.embedded()
        if known[model] == nil && !HubRepository.isMeant(by: model) {
            // A path needs no place where pulled models are kept.
            guard isPath(model) else { throw StartupError.unknownModel(model, known: known.entries.map(\.name)) }
            let file = URL(filePath: model).lastPathComponent
            return LocatedModel(name: file.hasSuffix(".gguf") ? String(file.dropLast(5)) : file, path: model)
        }
        let (catalog, store) = try catalog(home: home, environment: environment)
        if let entry = catalog[model] {
            return store.verifiedPaths(entry)?.first.map {
                LocatedModel(name: entry.name, path: $0, selfTest: entry.selfTest)
            }
        }
        let repository = try HubRepository(model)
        return HubPuller.pulled(repository, root: store.root).map { LocatedModel(name: "\(repository)", path: $0) }
    }

    private static func catalog(
        home: String?, environment: [String: String]
    ) throws -> (Catalog, ModelStore) {
        let root = try home ?? ModelStore.defaultRoot(environment: environment)
        return (try Catalog.embedded(), ModelStore(root: root))
    }

    /// A catalog name holds no slash and does not end in .gguf; a file of the same name in the working folder wins only
    /// when it is written with a slash.
    private static func isPath(_ model: String) -> Bool {
        model.contains("/") || model.hasSuffix(".gguf") || ModelFolder.isFolder(model)
    }
}
