// The paths of the server and the methods each accepts. One table, so that 404, 405 and the metrics' labels agree.

import HTTPTypes

/// What a path names.
enum Route: Equatable, Sendable {
    case completions, chat, responses, messages, countTokens, models, model(String)
    case embeddings, pooling, score, rerank
    case renderCompletion, renderChat
    case loadAdapter, unloadAdapter
    case tokenize, detokenize
    case startProfile, stopProfile
    case health, ready, live, ping, load, version, metrics, openAPI

    /// The route of a path without its query.
    init?(path: Substring) {
        switch path {
        case "/v1/completions": self = .completions
        case "/v1/chat/completions": self = .chat
        case "/v1/responses": self = .responses
        case "/v1/messages": self = .messages
        case "/v1/messages/count_tokens": self = .countTokens
        case "/v1/models": self = .models
        case "/v1/embeddings": self = .embeddings
        case "/pooling": self = .pooling
        case "/score", "/v1/score": self = .score
        case "/rerank", "/v1/rerank", "/v2/rerank": self = .rerank
        case "/v1/completions/render": self = .renderCompletion
        case "/v1/chat/completions/render": self = .renderChat
        case "/start_profile": self = .startProfile
        case "/stop_profile": self = .stopProfile
        case "/v1/load_lora_adapter": self = .loadAdapter
        case "/v1/unload_lora_adapter": self = .unloadAdapter
        case "/tokenize": self = .tokenize
        case "/detokenize": self = .detokenize
        case "/health": self = .health
        case "/ready", "/health/ready": self = .ready
        case "/live", "/health/live": self = .live
        case "/ping": self = .ping
        case "/load": self = .load
        case "/version": self = .version
        case "/metrics": self = .metrics
        case "/openapi.json": self = .openAPI
        default:
            let prefix = "/v1/models/"
            guard path.hasPrefix(prefix), path.count > prefix.count else { return nil }
            self = .model(Self.percentDecoded(path.dropFirst(prefix.count)))
        }
    }

    /// The methods it accepts, as the Allow header lists them.
    var allowed: String {
        if isPosted { return "POST" }
        return self == .ping ? "GET, HEAD, POST" : "GET, HEAD"
    }

    /// Whether it takes a body, and nothing but POST.
    private var isPosted: Bool {
        switch self {
        case .completions, .chat, .responses, .messages, .countTokens, .embeddings, .pooling, .score, .rerank,
            .renderCompletion, .renderChat, .tokenize, .detokenize, .startProfile, .stopProfile, .loadAdapter,
            .unloadAdapter:
            true
        default: false
        }
    }

    /// Whether it accepts `method`.
    func accepts(_ method: HTTPRequest.Method) -> Bool {
        if isPosted { return method == .post }
        return method == .get || method == .head || self == .ping && method == .post
    }

    /// Its name in the metrics: one of a fixed set.
    var label: String {
        switch self {
        case .completions: "/v1/completions"
        case .chat: "/v1/chat/completions"
        case .responses: "/v1/responses"
        case .messages: "/v1/messages"
        case .countTokens: "/v1/messages/count_tokens"
        case .models: "/v1/models"
        case .model: "/v1/models/{model}"
        case .embeddings: "/v1/embeddings"
        case .pooling: "/pooling"
        case .score: "/score"
        case .rerank: "/rerank"
        case .renderCompletion: "/v1/completions/render"
        case .renderChat: "/v1/chat/completions/render"
        case .startProfile: "/start_profile"
        case .stopProfile: "/stop_profile"
        case .loadAdapter: "/v1/load_lora_adapter"
        case .unloadAdapter: "/v1/unload_lora_adapter"
        case .tokenize: "/tokenize"
        case .detokenize: "/detokenize"
        case .health: "/health"
        case .ready: "/ready"
        case .live: "/live"
        case .ping: "/ping"
        case .load: "/load"
        case .version: "/version"
        case .metrics: "/metrics"
        case .openAPI: "/openapi.json"
        }
    }

    /// Whether its requests are counted; probes and scrapes are not.
    var isCounted: Bool {
        switch self {
        case .health, .ready, .live, .ping, .load, .version, .metrics, .openAPI: false
        default: true
        }
    }

    /// Whether it is served without a key: probes, and the figures unless they are to be guarded. Everything else, and
    /// whatever is added, needs one.
    func isOpen(_ configuration: ServingConfiguration) -> Bool {
        switch self {
        case .health, .ready, .live, .ping: true
        case .metrics: !configuration.guardsMetrics
        default: false
        }
    }

    /// In whose words it speaks.
    var dialect: Dialect {
        switch self {
        case .responses: .responses
        case .messages, .countTokens: .messages
        default: .completions
        }
    }

    /// `text` with each %XX replaced by its byte. What is not a valid escape stays as it is.
    private static func percentDecoded(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            let digits = Substring(rest.prefix(2))
            if byte == UInt8(ascii: "%"), digits.utf8.count == 2, digits.allSatisfy(\.isHexDigit),
                let decoded = UInt8(digits, radix: 16)
            {
                bytes.append(decoded)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
