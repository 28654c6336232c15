// The server under load: where it is, how it is asked, and what a request's bytes are. They are made before the
// measurement begins, because the generator shares the machine with the server.

import Foundation
import JSON
import NIOCore
import NIOHTTP1

/// Why a load could not be generated at all.
package enum LoadError: Error, Equatable, CustomStringConvertible {
    case invalidURL(String)
    case unreachable(url: String, reason: String)
    case noModel(url: String, reason: String)
    case unusableDataset(path: String, line: Int, reason: String)
    case unreadableFile(path: String, reason: String)
    case unwritableFile(path: String, reason: String)
    case didNotStart(command: String, reason: String)

    package var description: String {
        switch self {
        case .invalidURL(let url):
            "'\(url)' is not the address of a server. Give one like http://127.0.0.1:8000."
        case .unreachable(let url, let reason):
            "\(url) does not answer: \(reason). Start the server first, or give --ready-check-timeout-sec."
        case .noModel(let url, let reason): "\(url) does not name a model (\(reason)). Give --model."
        case .unusableDataset(let path, let line, let reason): "\(path), line \(line): \(reason)."
        case .unreadableFile(let path, let reason): "\(path) cannot be read: \(reason)."
        case .unwritableFile(let path, let reason): "\(path) cannot be written: \(reason)."
        case .didNotStart(let command, let reason): "`\(command)` did not start to serve: \(reason)."
        }
    }
}

/// The kind of endpoint that is asked.
package enum LoadBackend: String, CaseIterable, Sendable {
    case openai
    case openaiChat = "openai-chat"
    case vllm

    package var isChat: Bool { self == .openaiChat }
    package var endpoint: String { isChat ? "/v1/chat/completions" : "/v1/completions" }
}

/// Where and how a server is reached.
package struct LoadTarget: Sendable {
    package let host: String
    package let port: Int
    package let isSecure: Bool
    /// Put before every path; no slash at its end.
    package let pathPrefix: String
    /// Sent with every request besides what the protocol needs.
    package var headers: [(name: String, value: String)] = []
    /// Whether a certificate is believed without a check.
    package var isUnchecked = false

    /// - Throws: `LoadError.invalidURL`.
    package init(url text: String) throws(LoadError) {
        guard let url = URLComponents(string: text), let host = url.host, !host.isEmpty,
            let scheme = url.scheme?.lowercased(), ["http", "https"].contains(scheme)
        else { throw .invalidURL(text) }
        self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
        isSecure = scheme == "https"
        port = url.port ?? (isSecure ? 443 : 80)
        pathPrefix = url.path.hasSuffix("/") ? String(url.path.dropLast()) : url.path
    }

    package var description: String {
        "\(isSecure ? "https" : "http")://\(host.contains(":") ? "[\(host)]" : host):\(port)\(pathPrefix)"
    }

    func head(_ method: HTTPMethod, _ path: String, bodyBytes: Int? = nil) -> HTTPRequestHead {
        var fields = HTTPHeaders()
        fields.add(name: "host", value: "\(host.contains(":") ? "[\(host)]" : host):\(port)")
        fields.add(name: "user-agent", value: "apus-bench/\(Version.current)")
        fields.add(name: "accept", value: "*/*")
        if let bodyBytes {
            fields.add(name: "content-type", value: "application/json")
            fields.add(name: "content-length", value: String(bodyBytes))
        }
        for (name, value) in headers { fields.replaceOrAdd(name: name, value: value) }
        return HTTPRequestHead(version: .http1_1, method: method, uri: pathPrefix + path, headers: fields)
    }
}

/// How completions are asked for.
package struct LoadRequestFormat: Sendable {
    package var backend: LoadBackend
    package var model: String
    package var ignoresEndOfSequence = false
    /// Members of the body by their names: sampling, and what the operator adds.
    package var members: [(name: String, value: JSONText)] = []

    package init(backend: LoadBackend, model: String) {
        self.backend = backend
        self.model = model
    }

    /// The body that asks for `item`. A member given by the operator replaces one of the same name.
    package func body(_ item: LoadItem) -> ByteBuffer {
        var fields: [(String, JSONText)] = [("model", .string(model))]
        switch item.prompt {
        case .tokens(let tokens): fields.append(("prompt", .array(tokens.map { .integer($0) })))
        case .text(let text) where backend.isChat:
            fields.append(
                ("messages", .array([.object([("role", .string("user")), ("content", .string(text))])])))
        case .text(let text): fields.append(("prompt", .string(text)))
        case .messages(let messages): fields.append(("messages", messages.text))
        }
        fields += [
            ("max_tokens", .integer(item.outputTokens)), ("stream", .boolean(true)),
            ("stream_options", .object([("include_usage", .boolean(true))])),
        ]
        if ignoresEndOfSequence { fields.append(("ignore_eos", .boolean(true))) }
        let given = Set(members.map(\.name))
        fields = fields.filter { !given.contains($0.0) } + members.map { ($0.name, $0.value) }
        return ByteBuffer(string: JSONText.object(fields).line)
    }
}
