// Under which names the server may be addressed. A web page can have its own name point at this machine and then talk
// to a server here as if it were its own (DNS rebinding); the Host that its browser sends still tells.

/// The names that requests may have in their Host header.
package struct AllowedHosts: Sendable, Equatable {
    /// `api.example.org`, `*.example.org` for every name below it, or `*`; empty where nobody said.
    package var names: [String] = []
    /// Whether pages in a browser must use a name of this machine where `names` is empty: for a server that only this
    /// machine can reach and that asks for no key.
    package var guardsLocalServer = false

    package init() {}

    /// Whether a request may be served.
    /// - Parameters:
    ///   - host: its Host header, with or without a port.
    ///   - isFromPage: whether a browser sent it for a page; browsers say so, and nobody else does.
    func admit(_ host: String?, isFromPage: Bool) -> Bool {
        if names.isEmpty, !guardsLocalServer || !isFromPage { return true }
        let name = Self.name(of: host ?? "")
        if names.isEmpty { return Self.isLocal(name) }
        return names.contains { Self.matches(name, $0.lowercased()) }
    }

    private static func matches(_ name: String, _ pattern: String) -> Bool {
        if pattern == "*" { return true }
        guard pattern.hasPrefix("*.") else { return name == pattern }
        return name.hasSuffix(pattern.dropFirst()) && name.utf8.count > pattern.utf8.count - 1
    }

    /// The name in lower case, without its port, the brackets of an address, or a final dot.
    private static func name(of host: String) -> String {
        var name = host.lowercased()[...]
        if name.hasPrefix("[") {
            name = name.dropFirst().prefix { $0 != "]" }
        } else {
            name = name.prefix { $0 != ":" }
        }
        if name.hasSuffix(".") { name = name.dropLast() }
        return String(name)
    }

    /// Whether `name` always means this machine.
    private static func isLocal(_ name: String) -> Bool {
        if name == "localhost" || name.hasSuffix(".localhost") || name == "::1" { return true }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}
