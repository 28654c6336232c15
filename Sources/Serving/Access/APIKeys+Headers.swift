// Where in a request its key is looked for.
//
// Apart from the keys themselves, so that what decides about keys needs no HTTP.

import HTTPTypes

extension APIKeys {
    /// Whether a request with these headers may be served: `Authorization: Bearer KEY`, or `x-api-key: KEY`.
    func admit(_ headers: HTTPFields) -> Bool { tenant(of: headers) != nil }

    /// The number of the key that a request presents, by which the engine tells clients apart; nil where it must not be
    /// served, 0 where everybody is.
    func tenant(of headers: HTTPFields) -> UInt64? {
        guard !isEmpty else { return 0 }
        let authorization = headers[.authorization] ?? ""
        let scheme = authorization.prefix { $0 != " " }
        var key = scheme.lowercased() == "bearer" ? authorization.dropFirst(scheme.count).drop { $0 == " " } : ""
        if key.isEmpty { key = (headers[.xAPIKey] ?? "")[...] }
        // A missing key takes the same path as a wrong one.
        let number = number(of: String(key))
        return number > 0 ? number : nil
    }
}

extension HTTPField.Name {
    /// Where Anthropic's clients put their key.
    static let xAPIKey: HTTPField.Name = {
        guard let name = HTTPField.Name("x-api-key") else { preconditionFailure("the literal is a valid name") }
        return name
    }()
}
