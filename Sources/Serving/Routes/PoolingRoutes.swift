// /v1/embeddings, /pooling, /score and /rerank: prompts to vectors, and vectors to likeness. The model is the one that
// generates; its last states are the vectors, and the likeness of two texts is the cosine of theirs.

import Hummingbird
import NIOCore
import Scheduling

extension Router {
    /// POST /v1/embeddings and /pooling.
    func embed(_ call: Call, isPooling: Bool = false) async throws -> Response {
        var request = try EmbeddingRequest(try await state.bodies.fields(of: call.request), model: state.model)
        let model = try state.resolve(model: request.model)
        try addTimeouts(of: call, to: &request.prompt)
        let result = try await pool(call, request.source, request.prompt, model: request.model, field: "input")
        let (shape, isBase64) = (request.shape, request.isBase64)
        let format = VectorFormat(
            head: PooledHead(id: (isPooling ? "pool-" : "embd-") + call.label.base(request.prompt), model: model),
            isBase64: isBase64, isPooling: isPooling, usage: usage(of: result))
        // Megabytes of digits are no work for the threads that stream.
        let body = try await state.threads.run { () throws(ServingError) in
            format.body(result.vectors.map { shape($0) })
        }
        return Response(json: body)
    }

    /// POST /score and /v1/score.
    func score(_ call: Call) async throws -> Response {
        var request = try ScoreRequest(try await state.bodies.fields(of: call.request), model: state.model)
        let model = try state.resolve(model: request.model)
        try addTimeouts(of: call, to: &request.prompt)
        let result = try await pool(
            call, .prompts(request.texts.map { .text($0) }), request.prompt, model: request.model, field: "text_1")
        let shape = VectorShape()
        let vectors = result.vectors.map { shape($0) }
        let scores = request.pairs.map { Likeness.cosine(vectors[$0.0], vectors[$0.1]) }
        let head = PooledHead(id: "score-" + call.label.base(request.prompt), model: model)
        var body = head.opening(isList: true)
        body.writeStaticString(",\"data\":[")
        body.writeList(scores.enumerated()) { buffer, score in
            buffer.writeStaticString("{\"index\":")
            buffer.writeJSON(score.offset)
            buffer.writeStaticString(",\"object\":\"score\",\"score\":")
            buffer.writeString(score.element.description)
            buffer.writeStaticString("}")
        }
        body.writeStaticString("],\"usage\":")
        usage(of: result).write(to: &body)
        body.writeStaticString("}")
        return Response(json: body)
    }

    /// POST /rerank, /v1/rerank and /v2/rerank.
    func rerank(_ call: Call) async throws -> Response {
        var request = try RerankRequest(try await state.bodies.fields(of: call.request), model: state.model)
        let model = try state.resolve(model: request.model)
        try addTimeouts(of: call, to: &request.prompt)
        let texts = [request.query] + request.documents
        let result = try await pool(
            call, .prompts(texts.map { .text($0) }), request.prompt, model: request.model, field: "documents")
        let shape = VectorShape()
        let query = shape(result.vectors[0])
        let ranked = result.vectors.dropFirst().enumerated()
            .map { (index: $0.offset, score: Likeness.cosine(query, shape($0.element))) }
            .sorted { $0.score != $1.score ? $0.score > $1.score : $0.index < $1.index }
        var body = PooledHead(id: "rerank-" + call.label.base(request.prompt), model: model).opening(isList: false)
        body.writeStaticString(",\"usage\":{\"prompt_tokens\":")
        body.writeJSON(result.promptTokens)
        body.writeStaticString(",\"total_tokens\":")
        body.writeJSON(result.promptTokens)
        body.writeStaticString("},\"results\":[")
        body.writeList(ranked.prefix(request.top)) { buffer, entry in
            buffer.writeStaticString("{\"index\":")
            buffer.writeJSON(entry.index)
            if request.showsDocuments {
                buffer.writeStaticString(",\"document\":{\"text\":")
                buffer.writeJSON(request.documents[entry.index])
                buffer.writeStaticString("}")
            }
            buffer.writeStaticString(",\"relevance_score\":")
            buffer.writeString(entry.score.description)
            buffer.writeStaticString("}")
        }
        body.writeStaticString("]}")
        return Response(json: body)
    }

    private func pool(
        _ call: Call, _ source: PromptSource, _ prompt: PromptFields, model: String?, field: String
    ) async throws -> PooledPrompts {
        try await PoolingSession.pool(
            PoolingJob(
                source: source, prompt: prompt, tenant: tenant(of: call), arrival: call.arrival, field: field,
                adapter: try state.adapter(named: model)),
            server: state, peer: try await call.channel.peer())
    }

    private func usage(of result: PooledPrompts) -> Usage {
        Usage(
            promptTokens: result.promptTokens,
            cachedTokens: state.configuration.reportsCachedTokens ? result.cachedTokens : nil)
    }
}

/// How alike two vectors are.
private enum Likeness {
    /// Of vectors of length 1; from -1 to 1.
    static func cosine(_ one: [Float], _ other: [Float]) -> Double {
        let dot = zip(one, other).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        return min(1, max(-1, dot))
    }
}
