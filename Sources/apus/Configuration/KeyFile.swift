// The API keys of a configuration: those given as a setting and those of the key file. Messages name the file and the
// line, never what is in it.

import Foundation
import Serving

extension APIKeys {
    private static let maximumFileBytes = 1 << 20

    /// The keys that `settings` give.
    /// - Throws: `StartupError.unusableKeyFile`.
    init(_ settings: ResolvedSettings) throws(StartupError) {
        self.init()
        for key in settings.texts(.apiKey) { insert(key) }
        guard let path = settings.text(.apiKeyFile) else { return }
        let before = count
        if let line = insert(file: try Self.read(path)) {
            throw .unusableKeyFile(
                path: path, reason: "line \(line) is neither a key of visible ASCII nor sha256: and 64 hex digits")
        }
        if count == before { throw .unusableKeyFile(path: path, reason: "it has no keys") }
    }

    private static func read(_ path: String) throws(StartupError) -> String {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            throw .unusableKeyFile(path: path, reason: "it cannot be read")
        }
        guard data.count <= maximumFileBytes, let text = String(validating: data, as: UTF8.self) else {
            throw .unusableKeyFile(path: path, reason: "it is larger than 1 MiB or not UTF-8")
        }
        return text
    }
}
