// Which web pages of other origins may use the server from a browser: none unless told (CORS).

import HTTPTypes
import Hummingbird

/// What browsers are told about other origins.
package struct CrossOrigin: Sendable {
    /// Origins such as https://chat.example.org, or `*` for all; empty switches it off.
    package var origins: [String] = []
    /// Methods that pages may use.
    package var methods = ["GET", "POST"]
    /// Headers that pages may send; `*` for all but Authorization.
    package var headers = ["Authorization", "Content-Type", "X-API-Key", "X-Request-Id"]
    /// Whether pages may send cookies and the like. Never with `*`.
    package var allowsCredentials = false

    package init() {}

    /// The origin to name in the answer to a request from `origin`; nil if it may not see it.
    private func allowed(_ origin: String?) -> String? {
        guard let origin else { return nil }
        if origins.contains("*"), !allowsCredentials { return "*" }
        return origins.contains(origin) ? origin : nil
    }

    /// The answer to a browser that asks before it sends; nil if `request` is no such question.
    func preflight(_ request: Request) -> Response? {
        guard !origins.isEmpty, request.method == .options, request.headers[.accessControlRequestMethod] != nil else {
            return nil
        }
        var response = Response(status: .noContent)
        guard allowed(request.headers[.origin]) != nil else { return response }
        response.headers[.accessControlAllowMethods] = methods.joined(separator: ", ")
        response.headers[.accessControlAllowHeaders] = headers.joined(separator: ", ")
        response.headers[.accessControlMaxAge] = "600"
        return response
    }

    /// Tells the browser whether the page may see `response`.
    func mark(_ response: inout Response, for request: Request) {
        guard !origins.isEmpty else { return }
        response.headers[.vary] = "Origin"
        guard let origin = allowed(request.headers[.origin]) else { return }
        response.headers[.accessControlAllowOrigin] = origin
        response.headers[.accessControlExposeHeaders] = "x-request-id, retry-after"
        if allowsCredentials { response.headers[.accessControlAllowCredentials] = "true" }
    }
}
