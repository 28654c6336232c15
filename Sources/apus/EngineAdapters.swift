// Adapters from files onto the engine: those that the operator names at the start, and those that clients ask for,
// which lie in one folder. Files are read on a thread of their own, for nobody should wait for a disk.

import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Serving

/// Reads adapters that fit an engine's model.
struct EngineAdapters: AdapterSource {
    let engine: Engine
    let layout: AdapterLayout
    /// The folder that clients' paths lie in; nil where they name none.
    let folder: String?

    /// Loads what a client names, if it lies in the folder.
    func load(path: String, name: String) async throws(AdapterRefusal) -> AdapterReference {
        guard let folder, let found = AdapterFolder.resolve(path, in: folder) else { throw .outside(path: path) }
        do {
            return try await Self.load(found, name: name, layout: layout, on: engine)
        } catch let error as CheckpointError {
            // Clients need not know where the folder is.
            throw .unusable(error.description.replacing(AdapterFolder.canonical(folder) + "/", with: ""))
        } catch EngineError.tooManyAdapters {
            throw .busy
        } catch {
            throw .stopping
        }
    }

    /// Loads the folder at `path`, wherever it is.
    static func load(
        _ path: String, name: String, layout: AdapterLayout, on engine: Engine
    ) async throws -> AdapterReference {
        let adapter = try await withCheckedThrowingContinuation { continuation in
            let thread = Thread {
                continuation.resume(with: Result { try LowRankAdapter(path: path, layout: layout) })
            }
            thread.name = "apus-adapter"
            thread.start()
        }
        return try await engine.load(adapter, name: name)
    }
}

/// The folder in which the adapters lie that clients may load.
package enum AdapterFolder {
    /// The path of what lies within `folder`, links followed; nil for anything else, whether it exists or not.
    package static func resolve(_ path: String, in folder: String) -> String? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard !path.isEmpty, !path.utf8.contains(0), !parts.contains("..") else { return nil }
        let root = canonical(folder)
        let found = canonical(path.hasPrefix("/") ? path : root + "/" + path)
        return found.hasPrefix(root + "/") ? found : nil
    }

    static func canonical(_ path: String) -> String {
        let resolved = URL(filePath: path).resolvingSymlinksInPath().path(percentEncoded: false)
        return resolved.hasSuffix("/") && resolved != "/" ? String(resolved.dropLast()) : resolved
    }
}

/// Loads what the operator names at the start. Clients' paths lie in the folder of `clients`.
struct OperatorAdapters: AdapterSource {
    let clients: EngineAdapters

    func load(path: String, name: String) async throws(AdapterRefusal) -> AdapterReference {
        do {
            return try await EngineAdapters.load(path, name: name, layout: clients.layout, on: clients.engine)
        } catch let error as CheckpointError {
            throw .unusable(error.description)
        } catch {
            throw .stopping
        }
    }
}

/// An adapter of `lora-modules`: a name and a folder.
struct AdapterModule: Equatable {
    let name: String
    let path: String

    /// `name=path`
    init?(_ text: String) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        name = String(parts[0])
        path = String(parts[1])
    }
}
