// Where the Python is that downloads: one lookup for pip and for the hub.

import Foundation

/// Where Python 3 is.
enum PythonPath {
    /// The path of `python`: itself where it is one, otherwise looked up in PATH.
    static func find(_ python: String, environment: [String: String]) throws(PullError) -> String {
        let candidates =
            python.contains("/")
            ? [python] : (environment["PATH"] ?? "").split(separator: ":").map { "\($0)/\(python)" }
        guard let path = candidates.first(where: { $0.hasPrefix("/") && isExecutableFile($0) }) else {
            throw .pythonMissing(name: python)
        }
        return path
    }

    private static func isExecutableFile(_ path: String) -> Bool {
        FileIdentity.of(path) != nil && FileManager.default.isExecutableFile(atPath: path)
    }
}
