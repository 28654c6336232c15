// /openapi.json: what the server offers, for tools. Paths and methods come from the routes, bodies from the fields'
// table; the document is made once, at the start.

import HTTPTypes
import JSON
import NIOCore

/// The OpenAPI 3.1 document of one server.
struct OpenAPIDocument: Sendable {
    /// The document as JSON.
    let json: ByteBuffer

    init(_ configuration: ServingConfiguration) {
        var paths: [String] = []
        let loadsAdapters = configuration.adapters?.allowsLoading == true
        for route in Route.documented + (loadsAdapters ? [.loadAdapter, .unloadAdapter] : []) {
            let operations = [(HTTPRequest.Method.get, "get"), (.post, "post")].compactMap { method, name in
                route.accepts(method)
                    ? #""\#(name)":"# + Self.operation(route, name, configuration) : nil
            }
            paths.append("\(JSONValue.quoted(route.label)):{\(operations.joined(separator: ","))}")
        }
        let security =
            configuration.keys.isEmpty
            ? "" : #","securitySchemes":{"bearer":{"type":"http","scheme":"bearer"}}"#
        json = ByteBuffer(
            string: #"{"openapi":"3.1.0","info":{"title":"Apus","version":"#
                + JSONValue.quoted(configuration.version) + #"},"paths":{"# + paths.joined(separator: ",")
                + #"},"components":{"schemas":{"Error":\#(Self.error),"Usage":\#(Self.usage),"#
                + #""Answer":\#(Self.answer),"Message":\#(Self.message),"Response":\#(Self.response),"#
                + #""MessagesError":\#(Self.messagesError)}\#(security)}}"#)
    }

    private static func operation(_ route: Route, _ method: String, _ configuration: ServingConfiguration) -> String {
        var members = [#""operationId":\#(JSONValue.quoted(method + route.label.replacing("/", with: "_")))"#]
        members.append(#""summary":\#(JSONValue.quoted(route.sentence))"#)
        if case .model = route {
            members.append(#""parameters":[{"name":"model","in":"path","required":true,"schema":{"type":"string"}}]"#)
        }
        if method == "post", let (fields, required) = route.body(configuration) {
            let properties = fields.map(\.property)
            members.append(
                #""requestBody":{"required":true,"content":{"application/json":{"schema":{"type":"object","#
                    + #""required":[\#(required.map { JSONValue.quoted($0) }.joined(separator: ","))],"#
                    + #""properties":{\#(properties.joined(separator: ","))}}}}}"#)
        }
        if !configuration.keys.isEmpty && !route.isOpen(configuration) {
            members.append(#""security":[{"bearer":[]}]"#)
        }
        let failure =
            #"{"description":"What was wrong.","content":{"application/json":{"schema":"#
            + ##"{"$ref":"#/components/schemas/\##(route.dialect == .messages ? "MessagesError" : "Error")"}}}}"##
        members.append(
            #""responses":{"200":{"description":"The answer."\#(route.answer)},"4XX":\#(failure),"503":\#(failure)}"#)
        return "{\(members.joined(separator: ","))}"
    }

    private static let error =
        #"{"type":"object","required":["error"],"properties":{"error":{"type":"object","#
        + #""required":["message","type","param","code"],"properties":{"message":{"type":"string"},"#
        + #""type":{"type":"string"},"param":{"type":["string","null"]},"code":{"type":"integer"}}}}}"#

    private static let usage =
        #"{"type":"object","required":["prompt_tokens","completion_tokens","total_tokens"],"properties":{"#
        + #""prompt_tokens":{"type":"integer"},"completion_tokens":{"type":"integer"},"#
        + #""total_tokens":{"type":"integer"}}}"#

    private static let answer =
        #"{"type":"object","required":["id","object","created","model","choices","usage"],"properties":{"#
        + #""id":{"type":"string"},"object":{"type":"string"},"created":{"type":"integer"},"#
        + ##""model":{"type":"string"},"usage":{"$ref":"#/components/schemas/Usage"},"choices":{"type":"array","##
        + #""items":{"type":"object","required":["index","finish_reason"],"properties":{"#
        + #""index":{"type":"integer"},"finish_reason":{"type":"string"}}}}}}"#

    private static let message =
        #"{"type":"object","required":["id","type","role","model","content","stop_reason","usage"],"properties":{"#
        + #""id":{"type":"string"},"type":{"const":"message"},"role":{"const":"assistant"},"#
        + #""model":{"type":"string"},"content":{"type":"array","items":{"type":"object","required":["type"]}},"#
        + #""stop_reason":{"type":"string"},"stop_sequence":{"type":["string","null"]},"usage":{"type":"object","#
        + #""required":["input_tokens","output_tokens"]}}}"#

    private static let response =
        #"{"type":"object","required":["id","object","created_at","status","model","output","usage"],"properties":{"#
        + #""id":{"type":"string"},"object":{"const":"response"},"created_at":{"type":"integer"},"#
        + #""status":{"type":"string"},"model":{"type":"string"},"output":{"type":"array","items":{"#
        + #""type":"object","required":["type","id"]}},"usage":{"type":"object","#
        + #""required":["input_tokens","output_tokens","total_tokens"]}}}"#

    private static let messagesError =
        #"{"type":"object","required":["type","error"],"properties":{"type":{"const":"error"},"error":{"#
        + #""type":"object","required":["type","message"]}}}"#
}

extension Route {
    /// The routes of the document, in its order; those of adapters follow where they are open.
    static let documented: [Route] = [
        .completions, .chat, .responses, .messages, .countTokens, .embeddings, .pooling, .score, .rerank,
        .renderCompletion, .renderChat, .models, .model(""), .tokenize, .detokenize, .startProfile, .stopProfile,
        .health, .ready, .live, .ping, .load, .version, .metrics, .openAPI,
    ]

    /// What it is for.
    fileprivate var sentence: String {
        switch self {
        case .completions: "Continue a text."
        case .chat: "Answer a conversation."
        case .responses: "Answer a conversation of items."
        case .messages: "Answer a conversation of content blocks."
        case .countTokens: "The length of such a conversation."
        case .models: "The names of the model."
        case .model: "One name of the model."
        case .embeddings, .pooling: "The vectors of texts."
        case .score: "How alike texts are."
        case .rerank: "Documents by their likeness to a query."
        case .renderCompletion: "The tokens that a text would be continued from."
        case .renderChat: "The tokens that a conversation would be answered from."
        case .startProfile: "Record the engine's steps."
        case .stopProfile: "Write what was recorded."
        case .loadAdapter: "Load an adapter under a name."
        case .unloadAdapter: "Take an adapter's name out."
        case .tokenize: "The tokens of a text."
        case .detokenize: "The text of tokens."
        case .health: "Whether the engine is alive."
        case .ready: "Whether requests are accepted."
        case .live, .ping: "Whether the process answers."
        case .load: "How many requests are being answered."
        case .version: "The server's version."
        case .metrics: "Figures for Prometheus."
        case .openAPI: "This document."
        }
    }

    /// The fields of its body, and those that must be there.
    fileprivate func body(_ configuration: ServingConfiguration) -> (fields: [FieldSchema], required: [String])? {
        switch self {
        case .completions: (FieldSchema.completions(configuration), ["prompt"])
        case .chat: (FieldSchema.chat(configuration), ["messages"])
        case .responses: (FieldSchema.responses(configuration), ["input"])
        case .messages: (FieldSchema.messages(configuration), ["messages", "max_tokens"])
        case .countTokens: (FieldSchema.messages(configuration), ["messages"])
        case .embeddings, .pooling: (FieldSchema.embeddings(configuration), ["input"])
        case .score: (FieldSchema.score(configuration), ["text_1", "text_2"])
        case .rerank: (FieldSchema.rerank(configuration), ["query", "documents"])
        case .renderCompletion: (FieldSchema.completions(configuration), ["prompt"])
        case .renderChat: (FieldSchema.chat(configuration), ["messages"])
        case .loadAdapter: (FieldSchema.adapter(isLoaded: true), ["lora_name", "lora_path"])
        case .unloadAdapter: (FieldSchema.adapter(isLoaded: false), ["lora_name"])
        case .tokenize: (FieldSchema.tokenize(configuration), ["prompt"])
        case .detokenize: (FieldSchema.detokenize(configuration), ["tokens"])
        default: nil
        }
    }

    /// The content of its answer, as the member that follows the description.
    fileprivate var answer: String {
        switch self {
        case .completions, .chat:
            ##","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Answer"}},"##
                + #""text/event-stream":{"schema":{"type":"string"}}}"#
        case .responses:
            ##","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Response"}},"##
                + #""text/event-stream":{"schema":{"type":"string"}}}"#
        case .messages:
            ##","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Message"}},"##
                + #""text/event-stream":{"schema":{"type":"string"}}}"#
        case .health, .live, .ping, .startProfile: ""
        case .renderCompletion: #","content":{"application/json":{"schema":{"type":"array"}}}"#
        case .metrics, .loadAdapter, .unloadAdapter: #","content":{"text/plain":{"schema":{"type":"string"}}}"#
        default: #","content":{"application/json":{"schema":{"type":"object"}}}"#
        }
    }
}
