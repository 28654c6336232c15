// Why a checkpoint was refused.
//
// A model file comes from strangers: every refusal names the file, the byte, the field, what was found and what would
// have been accepted, so that an operator can tell a truncated download from an unsupported model without a debugger.

/// A checkpoint that cannot be loaded, and why.
package enum CheckpointError: Error, Equatable, CustomStringConvertible {
    /// The operating system refused the file, or it is not a regular file.
    case cannotOpen(file: String, reason: String)
    /// The file was modified between opening it and finishing with it.
    case changedWhileOpen(file: String, field: String, actual: Int64, expected: Int64)
    /// The bytes at `offset` contradict the format or the rest of the file.
    case malformed(file: String, offset: Int, field: String, actual: String, expected: String)
    /// A size or count above the limit this program sets for it.
    case overLimit(file: String, offset: Int, field: String, actual: UInt64, limit: UInt64)
    /// A valid file that asks for something Apus does not have.
    case unsupported(file: String, offset: Int, field: String, actual: String, supported: String)
    /// A metadata key without which the model cannot be built.
    case missingMetadata(file: String, key: String)
    /// A field of a JSON file, such as config.json, that is absent, damaged, or asks for something Apus does not have.
    case wrongSetting(file: String, field: String, actual: String, expected: String)
    /// A tensor the architecture needs; `similar` are the closest names in the file.
    case missingTensor(file: String, name: String, similar: [String])
    /// A tensor whose shape contradicts the model's configuration. Shapes are outermost first.
    case wrongShape(file: String, offset: Int, name: String, actual: [Int], expected: [Int])
    /// Something of the model, `count` of it, that `ranks` ranks cannot share evenly.
    case indivisible(file: String, what: String, count: Int, ranks: Int)
    /// Tensors that nothing read after the model was built; the output would ignore them silently.
    case unreadTensors(file: String, names: [String])

    /// The path of the checkpoint, as it was given.
    package var file: String {
        switch self {
        case .cannotOpen(let file, _), .changedWhileOpen(let file, _, _, _), .malformed(let file, _, _, _, _),
            .overLimit(let file, _, _, _, _), .unsupported(let file, _, _, _, _), .missingMetadata(let file, _),
            .wrongSetting(let file, _, _, _),
            .missingTensor(let file, _, _), .wrongShape(let file, _, _, _, _), .unreadTensors(let file, _),
            .indivisible(let file, _, _, _):
            file
        }
    }

    /// Bytes from the start of the file to the offending value; nil when the problem is something absent.
    package var offset: Int? {
        switch self {
        case .malformed(_, let offset, _, _, _), .overLimit(_, let offset, _, _, _),
            .unsupported(_, let offset, _, _, _), .wrongShape(_, let offset, _, _, _):
            offset
        case .cannotOpen, .changedWhileOpen, .missingMetadata, .missingTensor, .unreadTensors, .wrongSetting,
            .indivisible:
            nil
        }
    }

    /// The metadata key, tensor or part of the file the error is about; nil when it is about the file as a whole.
    package var field: String? {
        switch self {
        case .malformed(_, _, let field, _, _), .overLimit(_, _, let field, _, _), .unsupported(_, _, let field, _, _),
            .changedWhileOpen(_, let field, _, _), .wrongSetting(_, let field, _, _):
            field
        case .missingMetadata(_, let key): key
        case .missingTensor(_, let name, _), .wrongShape(_, _, let name, _, _): name
        case .unreadTensors(_, let names): names.first
        case .indivisible(_, let what, _, _): what
        case .cannotOpen: nil
        }
    }

    package var description: String {
        switch self {
        case .cannotOpen(let file, let reason):
            "Cannot open \(file): \(reason)."
        case .changedWhileOpen(let file, let field, let actual, let expected):
            "\(file) was modified while it was being loaded: its \(field) is now \(actual), it was \(expected). "
                + "Replace a model by renaming a new file over it, never by writing into it."
        case .malformed(let file, let offset, let field, let actual, let expected):
            "\(file) is damaged or not a model: at byte \(offset), \(field) is \(actual); expected \(expected). "
                + "Download the file again."
        case .overLimit(let file, let offset, let field, let actual, let limit):
            "\(file) is refused: at byte \(offset), \(field) is \(actual), above the limit of \(limit)."
        case .unsupported(let file, let offset, let field, let actual, let supported):
            "\(file) cannot be served: at byte \(offset), \(field) is \(actual), which is not supported; "
                + "supported: \(supported)."
        case .missingMetadata(let file, let key):
            "\(file) has no metadata \(key), without which the model cannot be built."
        case .wrongSetting(let file, let field, let actual, let expected):
            "\(file) cannot be served: \(field) is \(actual); expected \(expected)."
        case .missingTensor(let file, let name, let similar):
            "\(file) has no tensor \(name)" + (similar.isEmpty ? "." : "; similar: \(similar.joined(separator: ", ")).")
        case .wrongShape(let file, let offset, let name, let actual, let expected):
            "\(file) contradicts itself: at byte \(offset), tensor \(name) has shape \(actual); the metadata calls for "
                + "\(expected)."
        case .indivisible(let file, let what, let count, let ranks):
            "\(file) cannot be cut into \(ranks) parts: it has \(count) \(what). "
                + "Choose a --tensor-parallel-size that divides \(count)."
        case .unreadTensors(let file, let names):
            "\(file) has \(names.count) tensors this architecture does not use: "
                + names.prefix(5).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
                + ". Its output would be wrong without them."
        }
    }
}

/// A name from a file made safe for a log line: control characters escaped, at most 96 characters.
func printable(_ text: some StringProtocol) -> String {
    var result = ""
    for (index, scalar) in text.unicodeScalars.enumerated() {
        if index == 96 { return result + "…" }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator:
            result += "\\u{\(String(scalar.value, radix: 16))}"
        default:
            result.unicodeScalars.append(scalar)
        }
    }
    return result
}
