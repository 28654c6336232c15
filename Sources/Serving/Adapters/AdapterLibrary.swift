// The adapters that are served, by name. Loading happens elsewhere (AdapterSource); here is which names there are, and
// the references that keep their adapters on the engine.
//
// A request takes the reference that its name has when it arrives. Unloading drops the library's own, and so does
// loading another in the same name's place: requests under way keep theirs until they have ended.

import Execution
import Scheduling
import Synchronization

/// Where adapters come from.
package protocol AdapterSource: Sendable {
    /// Reads the adapter at `path`, as a client wrote it, and puts it on the engine.
    func load(path: String, name: String) async throws(AdapterRefusal) -> AdapterReference
}

/// The served adapters of one server.
package final class AdapterLibrary: Sendable {
    private struct State {
        var adapters: [String: AdapterReference] = [:]
        /// In the order in which they were first loaded.
        var names: [String] = []
        /// Names of adapters that are being loaded.
        var arriving: Set<String> = []
    }

    private let rules: AdapterRules?
    private let source: (any AdapterSource)?
    private let state = Mutex(State())
    /// Bytes of a name.
    private static let maxNameBytes = 256

    /// - Parameter source: nil where there are no adapters.
    package init(rules: AdapterRules?, source: (any AdapterSource)?) {
        self.rules = rules
        self.source = source
    }

    /// A library that has none and takes none.
    package convenience init() { self.init(rules: nil, source: nil) }

    /// Most adapters at one time; nil where there are none.
    var limit: Int? { rules?.maxCount }

    /// Whether they are loaded and unloaded by request.
    var allowsLoading: Bool { rules?.allowsLoading ?? false }

    /// The adapter that `name` means at this moment.
    func reference(_ name: String) -> AdapterReference? { state.withLock { $0.adapters[name] } }

    /// All names, oldest first.
    var names: [String] { state.withLock { $0.names } }

    /// Loads an adapter under a name.
    /// - Parameters:
    ///   - reserved: names that mean the model.
    ///   - replaces: whether an adapter of that name gives way.
    ///   - other: where it comes from, if not from where those of clients do.
    package func load(
        name: String, path: String, reserved: [String], replaces: Bool = false, from other: (any AdapterSource)? = nil
    ) async throws(AdapterRefusal) {
        guard let rules, let source = other ?? source else { throw .disabled }
        guard Self.isUsable(name) else { throw .unusableName(name, limit: Self.maxNameBytes) }
        guard !reserved.contains(name) else { throw .nameOfModel(name) }
        let refusal: AdapterRefusal? = state.withLock { state in
            if state.arriving.contains(name) { return .arriving(name) }
            if state.adapters[name] != nil {
                guard replaces else { return .exists(name) }
            } else {
                // A replacement takes no place but its own.
                let count = state.names.count + state.arriving.count { state.adapters[$0] == nil }
                guard count < rules.maxCount else { return .full(limit: rules.maxCount) }
            }
            state.arriving.insert(name)
            return nil
        }
        if let refusal { throw refusal }
        let reference: AdapterReference
        do throws(AdapterRefusal) {
            reference = try await source.load(path: path, name: name)
        } catch {
            state.withLock { _ = $0.arriving.remove(name) }
            throw error
        }
        // What gives way is let go outside the lock: it tells the engine.
        _ = state.withLock { state in
            state.arriving.remove(name)
            if state.adapters[name] == nil { state.names.append(name) }
            return state.adapters.updateValue(reference, forKey: name)
        }
    }

    /// Takes a name out. Requests under way are not touched.
    func unload(name: String) throws(AdapterRefusal) {
        let gone = state.withLock { state in
            state.names.removeAll { $0 == name }
            return state.adapters.removeValue(forKey: name)
        }
        if gone == nil { throw .absent(name) }
    }

    /// Names stand in lists of metrics, separated by commas.
    private static func isUsable(_ name: String) -> Bool {
        (1...maxNameBytes).contains(name.utf8.count) && !name.contains(",")
            && !name.unicodeScalars.contains { $0.properties.generalCategory == .control }
    }
}
