// What can be wrong with a request before anybody looks at its fields: bytes that are not HTTP, heads that are too
// large, requests that do not arrive, keys that are missing. The same JSON body as every other error.

import Execution
import HTTPTypes
import JSON
import NIOHTTP1

/// Why a request is refused by the connection or at the door.
enum TransportError: Error, Equatable, CustomStringConvertible {
    /// The bytes are not a request, or one whose length two readers could see differently.
    case malformed(reason: String)
    /// The request line and headers are larger than the limit, or there are too many headers.
    case headTooLarge
    /// The head began to arrive and did not end in time.
    case headTimeout(limit: Duration)
    /// The body did not arrive in time.
    case bodyTimeout(limit: Duration)
    /// No key was given, or none that is known; one text, so that nobody learns which.
    case unauthorized
    /// The server is not to be addressed by this name.
    case unknownHost(String)

    /// What a parser's error means.
    init(_ error: HTTPParserError) {
        self = error == .headerOverflow ? .headTooLarge : .malformed(reason: Self.reason(error))
    }

    private static func text(_ limit: Duration) -> String {
        "\((limit.seconds * 1000).rounded() / 1000) s"
    }

    private static func reason(_ error: HTTPParserError) -> String {
        switch error {
        case .invalidMethod: "the method is unknown"
        case .invalidVersion: "the version is not HTTP/1.0 or HTTP/1.1"
        case .invalidURL, .invalidHost, .invalidPort, .invalidPath, .invalidQueryString, .invalidFragment:
            "the target is not a URL"
        case .invalidHeaderToken, .lfExpected: "a header has a character or a line end that HTTP does not allow"
        case .invalidContentLength, .unexpectedContentLength: "its length is not stated once and plainly"
        case .invalidChunkSize: "a chunk's size is not a number"
        // Whoever closed the sending side alone can read this.
        case .invalidEOFState: "it ends before all of it was sent"
        default: "it does not follow the grammar"
        }
    }

    var description: String {
        switch self {
        case .malformed(let reason):
            "The request is not valid HTTP/1.1: \(reason)."
        case .headTooLarge:
            "The request's head is too large: at most \(HeadLimits.totalBytes) bytes, \(HeadLimits.fieldBytes) in one "
                + "header, and \(HeadLimits.fieldCount) headers are accepted."
        case .headTimeout(let limit):
            "The request's headers did not arrive within \(Self.text(limit))."
        case .bodyTimeout(let limit):
            "The request's body did not arrive within \(Self.text(limit))."
        case .unauthorized:
            "A valid API key is needed. Send it as 'Authorization: Bearer KEY'."
        case .unknownHost(let host):
            "This server is not to be addressed as \(JSONValue.quoted(host)). Its operator can allow the name with "
                + "--allowed-hosts."
        }
    }
}

extension OpenAIError {
    /// Maps the errors of the connection. Each ends it: what follows on it cannot be trusted to be a request.
    init(_ error: TransportError) {
        message = error.description
        closesConnection = true
        switch error {
        case .malformed: (status, type) = (.badRequest, "Bad Request")
        case .headTooLarge: (status, type) = (.requestHeaderFieldsTooLarge, "RequestHeaderFieldsTooLargeError")
        case .headTimeout, .bodyTimeout: (status, type) = (.requestTimeout, "RequestTimeoutError")
        case .unauthorized: (status, type) = (.unauthorized, "authentication_error")
        case .unknownHost: (status, type) = (.forbidden, "PermissionDeniedError")
        }
    }
}

/// The largest head that is read. Not settings: browsers, gateways and clients stay far below.
enum HeadLimits {
    static let fieldBytes = 8 << 10
    static let totalBytes = 32 << 10
    static let fieldCount = 100
}
