// Every request comes through here: finds its route, answers it, and turns whatever was thrown into a response. Also
// the place of the request's label, its count and its line in the debug log.

import Execution
import HTTPTypes
import Hummingbird
import Logging
import NIOCore

/// What all requests of one server share.
struct ServingState: Sendable {
    let configuration: ServingConfiguration
    let model: ServedModel
    let engine: any TextEngine
    let threads: TokenizerThreads
    let deliveries: EventDeliveries
    let constraints: ConstraintLibrary
    let bodies: BodyReader
    let adapters: AdapterLibrary
    let counters = RequestCounters()
    let openConnections = ConnectionGauge()
    let document: OpenAPIDocument

    var encoder: PromptEncoder { PromptEncoder(model: model) }

    init(
        configuration: ServingConfiguration, model: ServedModel, engine: any TextEngine, threads: TokenizerThreads,
        deliveries: EventDeliveries,
        constraintThread: TokenizerThreads, adapters: AdapterLibrary
    ) {
        self.adapters = adapters
        self.configuration = configuration
        self.model = model
        self.engine = engine
        self.threads = threads
        self.deliveries = deliveries
        constraints = ConstraintLibrary(model: model, thread: constraintThread)
        document = OpenAPIDocument(configuration)
        bodies = BodyReader(
            limit: configuration.maxBodyBytes, totalLimit: configuration.maxBodyBytesTotal, threads: threads)
    }

    /// The served name a request means; the first where it names none.
    func resolve(model name: String?) throws(ServingError) -> String {
        let served = configuration.servedModelNames
        guard let name else { return served.first ?? "" }
        guard served.contains(name) || adapters.reference(name) != nil else { throw unknown(name) }
        return name
    }
}

/// The connection that a request came by.
struct RequestConnection: InitializableFromSource, Sendable {
    let channel: any Channel

    init(source: ApplicationRequestContextSource) { channel = source.channel }
}

/// Answers requests.
struct Router: HTTPResponder {
    let state: ServingState
    let logger: Logger
    /// Seconds since 1970, for the model cards.
    let startTime = WallClock.seconds
    let process = ProcessFigures()

    func respond(to request: Request, context: RequestConnection) async throws -> Response {
        let arrival = state.engine.now
        let label = RequestLabel(header: request.headers[.xRequestID])
        let path = (request.head.path ?? "").prefix { $0 != "?" }
        let route = Route(path: path)
        var response: Response
        if let preflight = state.configuration.crossOrigin.preflight(request) {
            response = preflight
            state.configuration.crossOrigin.mark(&response, for: request)
            return response
        }
        do {
            // Before anything else, the path included: who has no key learns nothing.
            if route?.isOpen(state.configuration) != true { try admit(request) }
            guard let route else { throw ServingError.unknownPath(String(path)) }
            guard route.accepts(request.method) else {
                throw ServingError.methodNotAllowed(
                    method: request.method.rawValue, path: String(path), allowed: route.allowed)
            }
            let call = Call(request: request, label: label, arrival: arrival, channel: context.channel)
            response = try await answer(route, call)
        } catch let error as ServingError {
            if case .unexpected(let detail) = error {
                logger.error(
                    "A request failed unexpectedly.", metadata: ["id": "\(label.text)", "detail": "\(detail)"])
            }
            let dialect = route?.dialect ?? .completions
            response = OpenAIError(error.said(in: dialect)).response(in: dialect)
            if error.isAboutHead, request.hasLargeBody { response.headers[.connection] = "close" }
        } catch let error as TransportError {
            response = OpenAIError(error).response(in: route?.dialect ?? .completions)
            if error == .unauthorized { response.headers[.wwwAuthenticate] = "Bearer" }
        }
        state.configuration.crossOrigin.mark(&response, for: request)
        if request.method == .head {
            // The length is that of the body that GET has; `Response` would set it to 0.
            let headers = response.headers
            response = Response(status: response.status, headers: headers)
        }
        response.headers[.xRequestID] = label.text
        state.counters.count(
            route, method: request.method, status: Int(response.status.code), duration: state.engine.now - arrival,
            bytes: max(0, request.headers[.contentLength].flatMap { Int($0) } ?? 0))
        if !state.configuration.unloggedPaths.contains(String(path)) {
            logger.debug(
                "request",
                metadata: [
                    "id": "\(label.text)", "method": "\(request.method)", "route": "\(route?.label ?? "none")",
                    "status": "\(response.status.code)",
                ])
        }
        return response
    }

    /// Refuses whoever may not use the server.
    private func admit(_ request: Request) throws(TransportError) {
        let host = request.head.authority
        let origin = request.headers[.origin]
        let isAllowedOrigin = origin.map { state.configuration.crossOrigin.allows($0) } ?? false
        guard state.configuration.allowedHosts.admit(host, isFromPage: origin != nil && !isAllowedOrigin) else {
            throw .unknownHost(host ?? "")
        }
        guard state.configuration.keys.admit(request.headers) else { throw .unauthorized }
    }

    private func answer(_ route: Route, _ call: Call) async throws -> Response {
        switch route {
        case .completions: try await complete(call)
        case .chat: try await chat(call)
        case .responses: try await createResponse(call)
        case .messages: try await message(call)
        case .countTokens: try await countTokens(call)
        case .models: modelList()
        case .model(let name): try modelCard(name)
        case .embeddings: try await embed(call)
        case .pooling: try await embed(call, isPooling: true)
        case .score: try await score(call)
        case .rerank: try await rerank(call)
        case .renderCompletion: try await renderCompletion(call)
        case .renderChat: try await renderChat(call)
        case .startProfile: try await startProfile(call)
        case .stopProfile: try await stopProfile()
        case .loadAdapter: try await loadAdapter(call)
        case .unloadAdapter: try await unloadAdapter(call)
        case .tokenize: try await tokenize(call)
        case .detokenize: try await detokenize(call)
        case .health: try health()
        case .ready: try ready()
        case .ping, .live: Response(status: .ok)
        case .load: load()
        case .version: version()
        case .metrics: metrics()
        case .openAPI: Response(json: state.document.json)
        }
    }
}

/// One request and what is known about it from the start.
struct Call: Sendable {
    let request: Request
    let label: RequestLabel
    /// On the engine's clock.
    let arrival: Duration
    let channel: any Channel
}

extension ServingError {
    /// Whether it was thrown before the body was looked at.
    fileprivate var isAboutHead: Bool {
        switch self {
        case .unknownPath, .methodNotAllowed, .unsupportedMediaType: true
        default: false
        }
    }
}

extension Request {
    /// Whether to read a body that nobody wants would take longer than a new connection.
    fileprivate var hasLargeBody: Bool {
        headers[.transferEncoding] != nil || (headers[.contentLength].flatMap { Int($0) } ?? 0) > 64 << 10
    }
}

extension HTTPField.Name {
    /// The request's label, given by the client or by us.
    static let xRequestID: HTTPField.Name = {
        guard let name = HTTPField.Name("x-request-id") else { preconditionFailure("the literal is a valid name") }
        return name
    }()
}
