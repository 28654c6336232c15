// The one place where errors become HTTP: status, type, parameter and headers, in the shape the `openai` SDK unwraps.
//
// A failure that would repeat must not be a 5xx, or the SDK sends the request three times.

import Execution
import HTTPTypes
import Hummingbird
import NIOCore

/// An error as HTTP sees it.
struct OpenAIError {
    /// Status of the response, and `code` in the body.
    let status: HTTPResponse.Status
    /// The kind, in the words clients know from vLLM.
    let type: StaticString
    /// The sentence for the caller.
    let message: String
    /// Dotted path of the field at fault.
    var parameter: String?
    /// When to come back.
    var retryAfter: Duration?
    /// Methods that the path accepts.
    var allow: String?
    /// Whether the connection ends with this response.
    var closesConnection = false

    /// Maps every error of the module.
    init(_ error: ServingError) {
        message = error.isOfSchema ? "1 validation error: " + error.description : error.description
        switch error {
        case .unknownPath:
            (status, type) = (.notFound, "NotFoundError")
        case .methodNotAllowed(_, _, let allowed):
            (status, type, allow) = (.methodNotAllowed, "MethodNotAllowedError", allowed)
        case .unsupportedMediaType, .malformedJSON, .notAnObject:
            (status, type) = (.badRequest, "Bad Request")
        case .invalidType(let field, _, _), .missingField(let field, _):
            (status, type, parameter) = (.badRequest, "Bad Request", field)
        case .bodyTooLarge:
            (status, type, closesConnection) = (.contentTooLarge, "RequestEntityTooLargeError", true)
        case .tooManyBodies:
            (status, type, closesConnection) = (.serviceUnavailable, "ServiceUnavailableError", true)
            retryAfter = .seconds(1)
        case .invalidValue(let field, _, _), .unsupportedField(let field, _, _):
            (status, type, parameter) = (.badRequest, "BadRequestError", field)
        case .unknownModel:
            (status, type, parameter) = (.notFound, "NotFoundError", "model")
        case .contextExceeded:
            (status, type, parameter) = (.badRequest, "BadRequestError", "input_tokens")
        case .unfinishableMessage:
            (status, type, parameter) = (.badRequest, "BadRequestError", "continue_final_message")
        case .tooManySequences:
            (status, type, parameter) = (.badRequest, "BadRequestError", "n")
        case .noChatTemplate, .template:
            (status, type, parameter) = (.badRequest, "BadRequestError", "messages")
        case .tokenization:
            (status, type) = (.badRequest, "BadRequestError")
        case .constraint(let field, _):
            (status, type, parameter) = (.badRequest, "BadRequestError", field)
        case .tokenizerBusy, .constraintsBusy:
            (status, type) = (.serviceUnavailable, "ServiceUnavailableError")
            retryAfter = .seconds(1)
        case .adapter(let refusal):
            (status, type) = refusal.answer
            if case .busy = refusal { retryAfter = .seconds(1) }
        case .engine(.tooManyAdapters):
            (status, type) = (.serviceUnavailable, "ServiceUnavailableError")
            retryAfter = .seconds(1)
        case .engine(.stalled):
            (status, type) = (.serviceUnavailable, "ServiceUnavailableError")
            retryAfter = .seconds(10)
        case .engine(.overloaded(_, _, _, let duration)), .engine(.delayed(_, _, let duration)),
            .engine(.hopeless(_, _, let duration)):
            (status, type) = (.serviceUnavailable, "ServiceUnavailableError")
            retryAfter = duration
        case .engine(.overShare(_, _, _, let duration)):
            (status, type) = (.tooManyRequests, "RateLimitError")
            retryAfter = duration
        case .engine(.draining), .engine(.shutdown):
            (status, type, closesConnection) = (.serviceUnavailable, "ServiceUnavailableError", true)
            retryAfter = .seconds(5)
        case .outOfTime:
            (status, type) = (.serviceUnavailable, "ServiceUnavailableError")
            retryAfter = .seconds(1)
        case .alreadyProfiling, .notProfiling:
            (status, type) = (.conflict, "ConflictError")
        case .profilingDisabled:
            (status, type) = (.notFound, "NotFoundError")
        case .profileNotWritten:
            (status, type) = (.internalServerError, "InternalServerError")
        case .notReady:
            (status, type) = (.serviceUnavailable, "ServiceUnavailableError")
            retryAfter = .seconds(5)
        case .engine(.rejected):
            (status, type) = (.badRequest, "BadRequestError")
        case .engine(.numericalError), .engine(.deviceFailure), .engine(.rankFailure),
            .engine(.invalidConfiguration), .unexpected:
            (status, type) = (.internalServerError, "InternalServerError")
        case .clientGone:
            (status, type, closesConnection) = (.init(code: 499), "ClientClosedRequest", true)
        }
    }

    /// Writes `{"error": {…}}`.
    func write(to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"error\":{\"message\":")
        buffer.writeJSON(message)
        buffer.writeStaticString(",\"type\":\"")
        buffer.writeStaticString(type)
        buffer.writeStaticString("\",\"param\":")
        buffer.writeJSON(parameter)
        buffer.writeStaticString(",\"code\":")
        buffer.writeJSON(Int(status.code))
        buffer.writeStaticString("}}")
    }

    /// The whole response.
    /// - Parameter dialect: whose shape the body has.
    func response(in dialect: Dialect = .completions) -> Response {
        var body = ByteBuffer()
        if dialect == .messages { writeMessagesBody(to: &body) } else { write(to: &body) }
        var response = Response(json: body, status: status)
        if let retryAfter {
            response.headers[.retryAfter] = String(max(1, Int(retryAfter.seconds.rounded(.up))))
        }
        if let allow { response.headers[.allow] = allow }
        if closesConnection { response.headers[.connection] = "close" }
        return response
    }
}

extension ServingError {
    /// Whether the body has the wrong shape, as opposed to a value that is out of range; clients tell them apart.
    fileprivate var isOfSchema: Bool {
        switch self {
        case .malformedJSON, .notAnObject, .invalidType, .missingField: true
        default: false
        }
    }
}

extension AdapterRefusal {
    /// Status and kind, as controllers know them from vLLM.
    fileprivate var answer: (HTTPResponse.Status, StaticString) {
        switch self {
        case .disabled, .absent: (.notFound, "NotFoundError")
        case .busy, .stopping: (.serviceUnavailable, "ServiceUnavailableError")
        case .missingField, .unusableName, .nameOfModel, .exists, .arriving, .full, .outside, .unusable:
            (.badRequest, "InvalidUserInput")
        }
    }
}

extension Response {
    /// A JSON response.
    init(json body: ByteBuffer, status: HTTPResponse.Status = .ok) {
        self.init(status: status, headers: [.contentType: "application/json"], body: .init(byteBuffer: body))
    }
}
