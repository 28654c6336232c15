// Everything that can be wrong with a request, as data; `description` is the sentence its sender reads.
//
// The texts come from this catalogue and hold nothing but the request's own values and the server's limits: no paths,
// no addresses, no internal names. OpenAIError.swift maps the cases to HTTP.

import Execution
import Grammars
import JSON
import Tokenization

/// Why a request is not served.
package enum ServingError: Error, Equatable, CustomStringConvertible {
    /// There is nothing at this path.
    case unknownPath(String)
    /// The path exists, but not with this method.
    case methodNotAllowed(method: String, path: String, allowed: String)
    /// The body is not declared as JSON.
    case unsupportedMediaType(String?)
    /// The body is larger than the limit.
    case bodyTooLarge(limit: Int)
    /// All bodies being read are larger together than the limit.
    case tooManyBodies(limit: Int)
    /// The body is not JSON.
    case malformedJSON(reason: String, offset: Int)
    /// The body is JSON, but not an object.
    case notAnObject(kind: String)
    /// A field has the wrong type.
    case invalidType(field: String, value: String, requirement: String)
    /// A field's value is outside its range.
    case invalidValue(field: String, value: String, requirement: String)
    /// A field is missing.
    case missingField(field: String, requirement: String)
    /// A field asks for something this server does not do.
    case unsupportedField(field: String, value: String, advice: String)
    /// The model is not the one served here.
    case unknownModel(name: String, served: [String])
    /// The prompt leaves no room for a token. `isAtLeast`: counting stopped there.
    case contextExceeded(promptTokens: Int, isAtLeast: Bool, maxModelLength: Int)
    /// More sequences in one request than can ever wait.
    case tooManySequences(count: Int, limit: Int)
    /// The template does not show the last message as it is, so nothing can go on with it.
    case unfinishableMessage
    /// The model has no chat template.
    case noChatTemplate
    /// The chat template refused the conversation or ran out of its budget.
    case template(TemplateError)
    /// Text could not become tokens, or tokens text.
    case tokenization(TokenizationError)
    /// The form that the answer should have cannot be guaranteed.
    case constraint(field: String, GrammarError)
    /// Too many new forms wait to be made into grammars.
    case constraintsBusy(limit: Int)
    /// Too many calls wait for the tokenizer.
    case tokenizerBusy(limit: Int)
    /// An adapter is not loaded or unloaded.
    case adapter(AdapterRefusal)
    /// The engine refused or ended the request.
    case engine(EngineError)
    /// The time that the request allowed itself is over, and half a vector is none.
    case outOfTime
    /// A trace is being recorded already.
    case alreadyProfiling
    /// None is being recorded.
    case notProfiling
    /// The operator has not allowed traces.
    case profilingDisabled
    /// A trace could not be written.
    case profileNotWritten
    /// A probe asked while nothing is served; the words say why.
    case notReady(String)
    /// The client closed the connection; nobody reads the answer.
    case clientGone
    /// A defect in the server; the text goes to the log and not to the client.
    case unexpected(String)

    package var description: String {
        switch self {
        case .unknownPath(let path):
            "There is nothing at \(JSONValue.quoted(path))."
        case .methodNotAllowed(let method, let path, let allowed):
            "\(JSONValue.quoted(path)) does not accept \(JSONValue.quoted(method)). Use \(allowed)."
        case .unsupportedMediaType(let type):
            "Unsupported Media Type: the request has "
                + (type.map { "Content-Type \(JSONValue.quoted($0))" } ?? "no Content-Type")
                + ". Only 'application/json' is accepted."
        case .bodyTooLarge(let limit):
            "The request body is larger than \(limit) bytes, which is the most accepted."
        case .tooManyBodies(let limit):
            "The server is overloaded: the request bodies being read exceed \(limit) bytes. Try again later."
        case .malformedJSON(let reason, let offset):
            "The request body is not valid JSON: \(reason) (byte \(offset))."
        case .notAnObject(let kind):
            "The request body must be a JSON object, but it is \(kind)."
        case .invalidType(let field, let value, let requirement), .invalidValue(let field, let value, let requirement):
            "\(field) is \(value), but it must be \(requirement)."
        case .missingField(let field, let requirement):
            "\(field) is missing; it must be \(requirement)."
        case .unsupportedField(let field, let value, let advice):
            "\(field) is \(value), which this server does not support. \(advice)"
        case .unknownModel(let name, let served):
            "The model `\(name.prefix(128))` does not exist. This server has: "
                + served.map { "`\($0)`" }.joined(separator: ", ") + "."
        case .contextExceeded(let promptTokens, let isAtLeast, let maxModelLength):
            "This model's maximum context length is \(maxModelLength) tokens. However, your request has "
                + "\(isAtLeast ? "at least " : "")\(promptTokens) input tokens, which leaves no room for an output "
                + "token. Please reduce the length of the input."
        case .tooManySequences(let count, let limit):
            "The request asks for \(count) sequences (prompts × n), but at most \(limit) can wait at once. "
                + "Split it into several requests."
        case .unfinishableMessage:
            "continue_final_message is true, but the chat template changes the last message's text or leaves it out."
        case .noChatTemplate:
            "This model has no chat template. Use /v1/completions, or serve a checkpoint that has one."
        case .template(let error):
            "The conversation could not be rendered: \(error)."
        case .tokenization(let error):
            error.description
        case .constraint(let field, let error):
            "\(field) cannot be guaranteed. \(error)."
        case .constraintsBusy(let limit):
            "The server is overloaded: \(limit) new grammars wait to be compiled. Try again later."
        case .tokenizerBusy(let limit):
            "The server is overloaded: \(limit) calls wait for the tokenizer. Try again later."
        case .adapter(let refusal):
            refusal.description
        case .engine(.deviceFailure), .engine(.rankFailure):
            "The engine has failed and the server is stopping. Try another one."
        case .engine(let error):
            error.description
        case .outOfTime:
            "The time that the request allowed (timeout_ms or a header) was over before it was done."
        case .alreadyProfiling:
            "A trace is being recorded already. Use /stop_profile to end it."
        case .notProfiling:
            "No trace is being recorded. Use /start_profile to begin one."
        case .profilingDisabled:
            "This server records no traces. Start it with --profile-dir and a folder to write them to."
        case .profileNotWritten:
            "The trace could not be written to the folder of --profile-dir; the server's log says why."
        case .notReady(let reason):
            "The server is not ready: \(reason)."
        case .clientGone:
            "The client closed the connection."
        case .unexpected:
            "The server failed in an unexpected way. Report this with the request id."
        }
    }
}
