// Which web pages of other origins may use the server from a browser: none unless told (CORS).

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
}
