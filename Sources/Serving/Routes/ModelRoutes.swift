// /v1/models: one card for each name of the model, and one for each adapter.

import Hummingbird
import NIOCore

extension Router {
    /// GET /v1/models.
    func modelList() -> Response {
        var body = ByteBuffer()
        body.writeStaticString("{\"object\":\"list\",\"data\":[")
        body.writeList(state.configuration.servedModelNames + state.adapters.names) { buffer, name in
            writeCard(name, to: &buffer)
        }
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
        let base = state.configuration.servedModelNames.first
        let isAdapter = !state.configuration.servedModelNames.contains(name)
        buffer.writeStaticString("{\"id\":")
        buffer.writeJSON(name)
        buffer.writeStaticString(",\"object\":\"model\",\"created\":")
        buffer.writeJSON(startTime)
        // Load testers take `root` for the model's real name, and look for its tokenizer under it.
        buffer.writeStaticString(",\"owned_by\":\"apus\",\"root\":")
        buffer.writeJSON(isAdapter ? name : state.configuration.modelRoot ?? base)
        buffer.writeStaticString(",\"parent\":")
        buffer.writeJSON(isAdapter ? base : nil)
        buffer.writeStaticString(",\"max_model_len\":")
        buffer.writeJSON(state.model.maxModelLength)
        if let digests = state.model.digests, !isAdapter {
            buffer.writeStaticString(",\"digests\":{\"model\":")
            buffer.writeJSON(digests.model)
            buffer.writeStaticString(",\"tokenizer\":")
            buffer.writeJSON(digests.tokenizer)
            buffer.writeStaticString(",\"chat_template\":")
            buffer.writeJSON(digests.template)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString(",\"permission\":[{\"id\":")
        buffer.writeJSON("modelperm-" + name)
        buffer.writeStaticString(",\"object\":\"model_permission\",\"created\":")
        buffer.writeJSON(startTime)
        buffer.writeStaticString(Self.permission)
    }

    /// What older clients want to be told of: everything that this API has is allowed, and to everybody.
    private static let permission: StaticString = """
        ,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,\
        "allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}
        """
}
