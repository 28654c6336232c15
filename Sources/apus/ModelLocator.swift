// From what the operator called the model to the file to open: a path, or a name of the catalog, which is pulled when
// it is not here yet.

import Foundation
import Models

/// A model on this machine.
struct LocatedModel: Sendable, Equatable {
    /// What clients call it unless they are told otherwise.
    let name: String
    /// The GGUF file.
    let path: String
}

enum ModelLocator {
    /// The file that `model` names.
    /// - Parameter home: where pulled models are kept; nil for the user's cache folder.
    /// - Throws: `StartupError.unknownModel`, `PullError`.
    static func locate(_ model: String, home: String?, environment: [String: String]) throws -> LocatedModel {
        if isPath(model) {
            let file = URL(filePath: model).lastPathComponent
            return LocatedModel(name: file.hasSuffix(".gguf") ? String(file.dropLast(5)) : file, path: model)
        }
        let (catalog, store) = try catalog(home: home, environment: environment)
        guard let entry = catalog[model] else {
            throw StartupError.unknownModel(model, known: catalog.entries.map(\.name))
        }
        if let path = store.verifiedPaths(entry)?.first { return LocatedModel(name: entry.name, path: path) }
        let paths = try PullCommand.pull(
            entry.name, from: catalog, into: store, environment: environment, json: false)
        guard let path = paths.first else {
            throw StartupError.unknownModel(model, known: catalog.entries.map(\.name))
        }
        return LocatedModel(name: entry.name, path: path)
    }

    /// The same, without fetching anything: nil when the model is in the catalog but not here.
    static func locateHere(
        _ model: String, home: String?, environment: [String: String]
    ) throws -> LocatedModel? {
        if isPath(model) { return try locate(model, home: home, environment: environment) }
        let (catalog, store) = try catalog(home: home, environment: environment)
        guard let entry = catalog[model] else {
            throw StartupError.unknownModel(model, known: catalog.entries.map(\.name))
        }
        return store.verifiedPaths(entry)?.first.map { LocatedModel(name: entry.name, path: $0) }
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
        model.contains("/") || model.hasSuffix(".gguf")
    }
}
