// Why an adapter is not loaded or unloaded, in the words of whoever asked for it.

import JSON

/// An adapter that is not to be had.
package enum AdapterRefusal: Error, Equatable, CustomStringConvertible {
    /// The server was started without.
    case disabled
    /// A field that must be there is not, or is empty.
    case missingField(String)
    /// Not a name that can be served.
    case unusableName(String, limit: Int)
    /// The name means the model.
    case nameOfModel(String)
    /// There is one of that name.
    case exists(String)
    /// One of that name is being loaded.
    case arriving(String)
    /// There is none of that name.
    case absent(String)
    /// There are as many as there may be.
    case full(limit: Int)
    /// Requests still use adapters that were unloaded, and there is no place for another.
    case busy
    /// The path leads out of the folder of adapters, or nowhere.
    case outside(path: String)
    /// The files are not a plain LoRA adapter of this model; the sentence says why.
    case unusable(String)
    /// The engine serves no more.
    case stopping

    package var description: String {
        switch self {
        case .disabled: "This server loads no adapters. Start it with --enable-lora and --lora-dir."
        case .missingField(let field): "\(field) is missing or empty. Give both lora_name and lora_path."
        case .unusableName(let name, let limit):
            "\(JSONValue.quoted(name)) cannot be the name of an adapter: 1 to \(limit) bytes without commas and "
                + "control characters can."
        case .nameOfModel(let name): "\(JSONValue.quoted(name)) is the name of the model. Choose another."
        case .exists(let name):
            "The adapter \(JSONValue.quoted(name)) is loaded already. Unload it first, or set load_inplace to true."
        case .arriving(let name): "The adapter \(JSONValue.quoted(name)) is being loaded by another request."
        case .absent(let name): "There is no adapter \(JSONValue.quoted(name))."
        case .full(let limit): "As many adapters are loaded as may be (\(limit), --max-loras). Unload one first."
        case .busy:
            "Requests still use adapters that were unloaded, and there is no place for another. Try again later."
        case .outside(let path):
            "\(JSONValue.quoted(path)) is not a folder within --lora-dir. Give its path relative to that."
        case .unusable(let sentence): sentence
        case .stopping: "The server is shutting down and loads no adapters."
        }
    }
}
