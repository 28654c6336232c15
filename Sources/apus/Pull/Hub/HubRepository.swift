// A model's name on the Hugging Face hub, `hf:ORG/NAME@REVISION`. Its parts become parts of paths and of addresses, so
// they are checked here, once, and strictly.

import Foundation

/// A repository and the revision that is meant.
package struct HubRepository: Sendable, Equatable, CustomStringConvertible {
    package let organization: String
    package let name: String
    /// A branch, a tag or a commit.
    package let revision: String

    /// The repository that `text` names, with "hf:" before it or without.
    package init(_ text: String) throws(PullError) {
        let body = text.hasPrefix("hf:") ? text.dropFirst(3) : text[...]
        let parts = body.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        let names = (parts.first ?? "").split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        let revision = parts.count == 2 ? String(parts[1]) : "main"
        guard names.count == 2, names.allSatisfy(Self.isName), Self.isRevision(revision) else {
            throw .badRepository(text)
        }
        organization = names[0]
        name = names[1]
        self.revision = revision
    }

    /// Whether `text` can only mean a repository: it says so, or it has the form and nothing of that name is here.
    package static func isMeant(by text: String) -> Bool {
        if text.hasPrefix("hf:") { return true }
        guard !text.hasSuffix(".gguf"), !FileManager.default.fileExists(atPath: text) else { return false }
        do throws(PullError) {
            _ = try HubRepository(text)
            return true
        } catch {
            return false
        }
    }

    package var description: String { "\(organization)/\(name)" }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".")
    }

    /// The hub's own rule: letters, digits, dashes, underscores and dots, no "--" or "..", neither at an end.
    private static func isName(_ text: String) -> Bool {
        (1...96).contains(text.utf8.count) && text.utf8.allSatisfy(isPlain) && !text.contains("..")
            && !text.contains("--") && !".-".contains(text.first ?? ".") && !".-".contains(text.last ?? ".")
    }

    private static func isRevision(_ text: String) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        return (1...128).contains(text.utf8.count) && parts.count <= 4
            && parts.allSatisfy { part in
                !part.isEmpty && part.utf8.allSatisfy(isPlain) && !part.contains("..")
                    && !".-".contains(part.first ?? ".")
            }
    }

    /// Whether `text` is a commit's full name.
    static func isCommit(_ text: String) -> Bool { text.utf8.count == 40 && text.utf8.allSatisfy(isHexDigit) }

    static func isHexDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte) }
}

/// Where the hub is and what opens it.
package struct HubAccess: Sendable {
    /// Without a slash at the end.
    package let endpoint: String
    let token: String?

    /// HF_ENDPOINT and HF_TOKEN of the environment.
    package init(environment: [String: String]) throws(PullError) {
        var endpoint = environment["HF_ENDPOINT"].flatMap { $0.isEmpty ? nil : $0 } ?? "https://huggingface.co"
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        token = environment["HF_TOKEN"].flatMap { $0.isEmpty ? nil : $0 }
        guard let address = URLComponents(string: endpoint), let host = address.host, !host.isEmpty,
            address.user == nil, address.query == nil, address.fragment == nil,
            address.scheme == "https" || address.scheme == "http"
        else { throw .badEndpoint(endpoint, reason: "it is not an http or https address") }
        let isHere = host == "localhost" || host == "127.0.0.1" || host == "[::1]" || host == "::1"
        guard token == nil || address.scheme == "https" || isHere else {
            throw .badEndpoint(endpoint, reason: "HF_TOKEN would travel in the clear")
        }
        self.endpoint = endpoint
    }

    func listing(_ repository: HubRepository) -> String {
        let revision = repository.revision.replacingOccurrences(of: "/", with: "%2F")
        return "\(endpoint)/api/models/\(repository)/revision/\(revision)?blobs=true"
    }

    func file(_ path: String, of repository: HubRepository, commit: String) -> String {
        let path = path.addingPercentEncoding(withAllowedCharacters: Self.pathCharacters) ?? path
        return "\(endpoint)/\(repository)/resolve/\(commit)/\(path)"
    }

    private static let pathCharacters = CharacterSet(
        charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./")
}
