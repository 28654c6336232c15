// Where pulled models live, and how a start finds them again without hashing them.
//
// A file is in its place only after it was verified; beside it stands a record of what was verified: size, inode and
// time of modification. While those are unchanged, so is the content, and serving starts at once.

import Foundation
import Models

/// The folder of pulled models: `<root>/models/<name>/<file>`.
package struct ModelStore: Sendable {
    /// The value of APUS_HOME, or the user's cache folder.
    package let root: String

    package init(root: String) { self.root = root }

    /// The folder the environment asks for: APUS_HOME, or `apus` in the user's cache folder.
    package static func defaultRoot(environment: [String: String]) throws(PullError) -> String {
        if let home = environment["APUS_HOME"], !home.isEmpty { return home }
        #if !os(macOS)
            // The XDG specification has relative paths ignored.
            if let cache = environment["XDG_CACHE_HOME"], cache.hasPrefix("/") { return cache + "/apus" }
        #endif
        guard let home = environment["HOME"], !home.isEmpty else { throw .noHome }
        #if os(macOS)
            return home + "/Library/Caches/apus"
        #else
            return home + "/.cache/apus"
        #endif
    }

    /// The folder of one model.
    package func folder(_ entry: CatalogEntry) -> String { "\(root)/models/\(entry.name)" }

    /// Where a file of a model is, or will be.
    package func path(_ file: CatalogFile, of entry: CatalogEntry) -> String { "\(folder(entry))/\(file.name)" }

    /// The paths of all files of a model, in the catalog's order, or nil when one is missing, was modified since it
    /// was verified, or is not the one the catalog means now.
    package func verifiedPaths(_ entry: CatalogEntry) -> [String]? {
        guard entry.files.allSatisfy({ isVerified($0, of: entry) }) else { return nil }
        return entry.files.map { path($0, of: entry) }
    }

    /// Whether `file` is in place and unchanged since it was verified against the catalog's digest.
    func isVerified(_ file: CatalogFile, of entry: CatalogEntry) -> Bool {
        let path = path(file, of: entry)
        guard let identity = FileIdentity.of(path), let record = Self.record(at: path + Self.recordSuffix) else {
            return false
        }
        return record.identity == identity && record.sha256 == file.sha256 && record.file == file.name
    }

    /// Remembers that the file in place was verified.
    func record(_ file: CatalogFile, of entry: CatalogEntry, source: String) throws(PullError) {
        let path = path(file, of: entry)
        guard let identity = FileIdentity.of(path) else {
            throw .fileSystem(operation: "find", path: path, reason: "it was removed while it was being verified")
        }
        let record = PullRecord(file: file.name, sha256: file.sha256, source: source, identity: identity)
        try fileSystem("write", path + Self.recordSuffix) {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            try encoder.encode(record).write(to: URL(fileURLWithPath: path + Self.recordSuffix), options: .atomic)
        }
    }

    private static let recordSuffix = ".verified.json"

    /// The digest that a file was verified to have, if it is unchanged since.
    static func verifiedDigest(of path: String) -> String? {
        guard let record = record(at: path + recordSuffix), record.identity == FileIdentity.of(path) else { return nil }
        return record.sha256
    }

    /// A record that is missing or unreadable only costs another verification.
    private static func record(at path: String) -> PullRecord? {
        guard let content = FileManager.default.contents(atPath: path) else { return nil }
        do {
            return try JSONDecoder().decode(PullRecord.self, from: content)
        } catch {
            return nil
        }
    }
}

/// What was verified, and the state the file was in then.
private struct PullRecord: Codable {
    let file: String
    let sha256: String
    let source: String
    let identity: FileIdentity
}
