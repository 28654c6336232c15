// What the rules about other origins add to a response.

import HTTPTypes
import Hummingbird

extension CrossOrigin {
    /// Whether pages of `origin` may use the server.
    func allows(_ origin: String) -> Bool { allowed(origin) != nil }

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
