// /v1/load_lora_adapter and /v1/unload_lora_adapter: for operators' controllers, off unless --lora-dir names a folder.

import Execution
import Hummingbird
import Logging
import NIOCore
import Scheduling

extension Router {
    /// POST /v1/load_lora_adapter.
    func loadAdapter(_ call: Call) async throws -> Response {
        let library = state.adapters
        guard library.allowsLoading else { throw ServingError.adapter(.disabled) }
        let fields = try await state.bodies.fields(of: call.request)
        let name = try Self.text("lora_name", fields)
        let path = try Self.text("lora_path", fields)
        let replaces = try fields.bool("load_inplace") ?? false
        do throws(AdapterRefusal) {
            try await library.load(
                name: name, path: path, reserved: state.configuration.servedModelNames, replaces: replaces)
        } catch {
            logger.warning("An adapter was not loaded: \(error)", metadata: ["id": "\(call.label.text)"])
            throw ServingError.adapter(error)
        }
        logger.notice("The adapter '\(name)' was loaded.", metadata: ["id": "\(call.label.text)"])
        return Response(plain: "The adapter '\(name)' is loaded.")
    }

    /// POST /v1/unload_lora_adapter.
    func unloadAdapter(_ call: Call) async throws -> Response {
        let library = state.adapters
        guard library.allowsLoading else { throw ServingError.adapter(.disabled) }
        let name = try Self.text("lora_name", try await state.bodies.fields(of: call.request))
        do throws(AdapterRefusal) { try library.unload(name: name) } catch { throw ServingError.adapter(error) }
        logger.notice("The adapter '\(name)' was unloaded.", metadata: ["id": "\(call.label.text)"])
        return Response(plain: "The adapter '\(name)' is unloaded.")
    }

    private static func text(_ name: String, _ fields: JSONFields) throws(ServingError) -> String {
        guard let text = try fields.string(name), !text.isEmpty else { throw .adapter(.missingField(name)) }
        return text
    }
}

extension ServingState {
    /// The adapter that a request's model means; nil where it means the model itself.
    func adapter(named name: String?) throws(ServingError) -> AdapterReference? {
        guard let name, !configuration.servedModelNames.contains(name) else { return nil }
        guard let adapter = adapters.reference(name) else { throw unknown(name) }
        return adapter
    }

    /// The refusal of a name, with those that there are.
    func unknown(_ name: String) -> ServingError {
        .unknownModel(name: name, served: configuration.servedModelNames + adapters.names)
    }
}

extension Metrics {
    /// The adapters that requests use, as routers that send requests where their adapters are read it.
    mutating func write(_ adapters: [AdapterUse], limit: Int) {
        func names(_ isCounted: (AdapterUse) -> Bool) -> String {
            Self.escaped(adapters.filter(isCounted).map(\.name).joined(separator: ","))
        }
        family("vllm:lora_requests_info", "gauge", "Adapters in use; the value is the time in seconds since 1970.")
        sample(
            "vllm:lora_requests_info",
            "max_lora=\"\(limit)\",running_lora_adapters=\"\(names { $0.running > 0 })\","
                + "waiting_lora_adapters=\"\(names { $0.waiting > 0 })\"", Double(WallClock.seconds))
    }
}

extension Response {
    /// A sentence.
    fileprivate init(plain text: String) {
        self.init(
            status: .ok, headers: [.contentType: "text/plain; charset=utf-8"],
            body: .init(byteBuffer: ByteBuffer(string: text)))
    }
}
