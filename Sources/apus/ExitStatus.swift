// What the process says when it ends: the one place that maps errors to exit codes.

import ArgumentParser
import Checkpoints
import Execution
import Models
import Scheduling
import Serving
import Tensors
import Tokenization

/// Exit codes, numbered as in sysexits.h.
package enum ExitStatus: Int32, Sendable {
    /// Everything asked for was done; a server was drained.
    case success = 0
    /// The command line does not parse.
    case usage = 64
    /// A defect: an error nobody expected.
    case defect = 70
    /// The device failed.
    case device = 74
    /// The engine stopped making progress.
    case hang = 75
    /// A rank of a model that is cut into parts failed or did not come.
    case rank = 76
    /// The configuration or the model was refused.
    case configuration = 78
    /// Interrupted by the operator, as shells number SIGINT.
    case interrupted = 130

    /// The status for an error that ended a command.
    package init(_ error: any Error) {
        switch error {
        case PullError.cancelled, PullError.interrupted:
            self = .interrupted
        case is ConfigurationError, is CheckpointError, is ModelError, is TokenizationError, is TemplateError,
            is SchedulingError, is StartupError, is PullError, is CatalogError, is LoadError:
            self = .configuration
        case let error as BackendError:
            switch error {
            case .unsupported, .outOfMemory: self = .configuration
            case .deviceFailure, .lostStep: self = .device
            case .rankFailure: self = .rank
            }
        case let error as EngineError:
            switch error {
            case .invalidConfiguration, .rejected, .overloaded, .overShare, .delayed, .hopeless, .tooManyAdapters:
                self = .configuration
            case .deviceFailure, .numericalError: self = .device
            case .rankFailure: self = .rank
            case .stalled: self = .hang
            case .draining, .shutdown: self = .success
            }
        case is EngineStall:
            self = .hang
        default:
            self = .defect
        }
    }
}

/// What can go wrong between a valid configuration and a serving process.
package enum StartupError: Error, Equatable, Sendable, CustomStringConvertible {
    /// MODEL is neither a readable file nor a name of the catalog.
    case unknownModel(String, known: [String])
    /// The address cannot be listened on.
    case cannotListen(address: String, reason: String)
    /// The file of API keys is not one.
    case unusableKeyFile(path: String, reason: String)
    /// TLS cannot be offered with the files that are named.
    case unusableCertificate(TLSFileError)
    /// An adapter of lora-modules cannot be served.
    case unusableAdapter(name: String, reason: String)
    /// The folder of adapters is not there.
    case noAdapterFolder(String)
    /// A catalog model does not say what it is known to say.
    case selfTestFailed(what: String, prompt: String, actual: [Int], expected: [Int])
    /// `--chat` was asked of a model that has no chat template.
    case noChatTemplate(model: String)

    package var description: String {
        switch self {
        case .unknownModel(let model, let known):
            "\(model) is neither a file nor a model of the catalog. Give the path of a GGUF file or of a folder, "
                + "ORG/NAME of the hub, or one of: " + known.joined(separator: ", ") + "."
        case .cannotListen(let address, let reason):
            "Cannot listen on \(address): \(reason). "
                + (address.contains(":") ? "Choose another --port, or 0 for a free one." : "Choose another --uds.")
        case .unusableKeyFile(let path, let reason):
            "The key file \(path) cannot be used: \(reason). Give one key on a line, or sha256: and its digest."
        case .unusableCertificate(let error):
            "The server cannot offer TLS: \(error). Check --ssl-certfile, --ssl-keyfile and --ssl-ca-certs."
        case .unusableAdapter(let name, let reason):
            "The adapter '\(name)' of lora-modules cannot be served: \(reason)"
        case .noAdapterFolder(let path):
            "lora-dir is \(path), which does not exist. Make the folder, or leave --lora-dir out."
        case .selfTestFailed(let what, let prompt, let actual, let expected):
            "The self-test failed: for \"\(prompt)\" \(what) gives the tokens \(actual), and \(expected) are known. "
                + "Pull the model again, and run `apus verify` to check the device."
        case .noChatTemplate(let model):
            "\(model) has no chat template, so --chat cannot frame the prompt. Leave --chat out."
        }
    }
}
