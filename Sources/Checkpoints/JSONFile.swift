// The small JSON files beside a model's weights.

import JSON

extension JSONValue {
    /// The members of a file that holds one object.
    /// - Parameters:
    ///   - json: its content.
    ///   - file: its path, for messages.
    ///   - limit: the most bytes that it may have.
    static func members(of json: [UInt8], file: String, limit: Int) throws(CheckpointError) -> [Member] {
        guard json.count <= limit else {
            throw .overLimit(
                file: file, offset: 0, field: "its size", actual: UInt64(json.count), limit: UInt64(limit))
        }
        let tree: JSONValue
        do throws(JSONError) { tree = try JSONParser.parse(json) } catch {
            throw .malformed(
                file: file, offset: error.offset, field: "the text", actual: error.reason, expected: "JSON")
        }
        guard case .object(let members) = tree else {
            throw .malformed(file: file, offset: 0, field: "the text", actual: tree.kind, expected: "an object")
        }
        return members
    }
}
