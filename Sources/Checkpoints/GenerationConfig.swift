// generation_config.json: which tokens end an answer and the sampling that the model's publisher recommends. Everything
// else it may say is for other programs.

import JSON

/// A folder's generation_config.json.
package struct GenerationConfig: Sendable, Equatable {
    /// The most bytes the file may have.
    package static let maxBytes = 1 << 20
    private static let maxEndTokens = 64

    /// The ids of the tokens that end an answer, in the file's order.
    package private(set) var endTokens: [Int] = []
    package let defaults: GenerationDefaults

    /// Reads the file whose content is `json`.
    /// - Parameters:
    ///   - file: its path, for messages.
    ///   - vocabSize: ids are below this.
    package init(json: [UInt8], file: String, vocabSize: Int) throws(CheckpointError) {
        let members = try JSONValue.members(of: json, file: file, limit: Self.maxBytes)
        func value(_ name: String) -> JSONValue { members.first { $0.name == name }?.value ?? .null }
        func wrong(_ name: String, _ expected: String) -> CheckpointError {
            .malformed(file: file, offset: 0, field: name, actual: value(name).summary, expected: expected)
        }
        func number(_ name: String, _ range: ClosedRange<Double>) throws(CheckpointError) -> Double? {
            let number: Double
            switch value(name) {
            case .null: return nil
            case .integer(let integer): number = Double(integer)
            case .number(let value): number = value
            default: throw wrong(name, "a number")
            }
            guard range.contains(number) else {
                throw wrong(name, "a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
        let topK = try number("top_k", -1...Double(Int32.max))
        defaults = GenerationDefaults(
            temperature: try number("temperature", 0...100).map { min($0, 2) }, topP: try number("top_p", 0...1),
            minP: try number("min_p", 0...1), topK: topK.map { Int($0) })
        let ids: [JSONValue]
        switch value("eos_token_id") {
        case .null: ids = []
        case .array(let list) where list.count <= Self.maxEndTokens: ids = list
        case .integer: ids = [value("eos_token_id")]
        default: throw wrong("eos_token_id", "an id, or a list of at most \(Self.maxEndTokens)")
        }
        for id in ids {
            guard let id = id.exactInteger, (0..<vocabSize).contains(id) else {
                throw wrong("eos_token_id", "ids below \(vocabSize)")
            }
            if !endTokens.contains(id) { endTokens.append(id) }
        }
    }
}
