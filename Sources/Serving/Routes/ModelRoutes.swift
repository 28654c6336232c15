// /v1/models: one card for each name of the model.

import Hummingbird
import NIOCore

extension Router {
    /// GET /v1/models.
    func modelList() -> Response {
        var body = ByteBuffer()
        body.writeStaticString("{\"object\":\"list\",\"data\":[")
        body.writeList(state.configuration.servedModelNames) { buffer, name in writeCard(name, to: &buffer) }
        body.writeStaticString("]}")
        return Response(json: body)
    }

    /// GET /v1/models/{model}.
    func modelCard(_ name: String) throws(ServingError) -> Response {
        var body = ByteBuffer()
        writeCard(try state.resolve(model: name), to: &body)
        return Response(json: body)
    }

    private func writeCard(_ name: String, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"id\":")
        buffer.writeJSON(name)
        buffer.writeStaticString(",\"object\":\"model\",\"created\":")
        buffer.writeJSON(startTime)
        // Load testers take `root` for the model's real name.
        buffer.writeStaticString(",\"owned_by\":\"apus\",\"root\":")
        buffer.writeJSON(state.configuration.servedModelNames.first)
        buffer.writeStaticString(",\"parent\":null,\"max_model_len\":")
        buffer.writeJSON(state.model.maxModelLength)
        if let digests = state.model.digests {
            buffer.writeStaticString(",\"digests\":{\"model\":")
            buffer.writeJSON(digests.model)
            buffer.writeStaticString(",\"tokenizer\":")
            buffer.writeJSON(digests.tokenizer)
            buffer.writeStaticString(",\"chat_template\":")
            buffer.writeJSON(digests.template)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString(",\"permission\":[]}")
    }
}
