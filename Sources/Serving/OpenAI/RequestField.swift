// The limits of requests, in one table: validation reads its ranges, docs/requests.md is written from it, and the tests
// at each limit and beyond are made of it.

import JSON

/// One field of a request.
package struct RequestField: Sendable {
    /// What a field may hold.
    package enum Kind: Sendable {
        case bool
        case integer(ClosedRange<Int>)
        /// `isOpen`: the lower bound itself is excluded. An upper bound of the greatest number is none.
        case number(ClosedRange<Double>, isOpen: Bool = false)
        case text(characters: ClosedRange<Int>)
        case choice([String])
        /// A list of strings, or a single one where `isSingle` is true; `count` of them, `bytes` each.
        case strings(count: ClosedRange<Int>, bytes: ClosedRange<Int>, isSingle: Bool = false)
        /// Token ids of the model's vocabulary.
        case tokens(count: ClosedRange<Int>)
        /// An object from token ids to numbers.
        case biases(count: ClosedRange<Int>)
        case object(members: ClosedRange<Int>)
        /// A list of objects, whatever their members are.
        case objects(count: ClosedRange<Int>)
        /// A form of its own, which its reader checks: what it must be, and the members of its JSON Schema.
        case other(String, schema: String)
    }

    /// Which endpoints have it.
    package enum Scope: String, Sendable {
        case both = "both"
        case completions = "completions"
        case chat = "chat"
        case embeddings = "embeddings"
        case rerank = "rerank"
    }

    /// Its name; a dotted path inside another object.
    package let name: String
    package let kind: Kind
    package let scope: Scope
    /// What its absence and null mean.
    package let standard: String
    /// What it does.
    package let sentence: String

    init(_ name: String, _ kind: Kind, _ scope: Scope = .both, default standard: String, _ sentence: String) {
        self.name = name
        self.kind = kind
        self.scope = scope
        self.standard = standard
        self.sentence = sentence
    }

    /// The name inside its own object.
    var key: String { name.split(separator: ".").last.map(String.init) ?? name }

    /// What a value must be, as refusals and the documentation say it.
    package var requirement: String {
        switch kind {
        case .bool: "a boolean"
        case .integer(let range):
            switch (range.lowerBound, range.upperBound) {
            case (.min, .max): "an integer of 64 bits"
            case (let lower, .max): "an integer of at least \(lower)"
            case (let lower, let upper): "an integer from \(lower) to \(upper)"
            }
        case .number(let range, let isOpen):
            if range.upperBound == .greatestFiniteMagnitude {
                "a number \(isOpen ? "above" : "of at least") \(range.lowerBound.brief)"
            } else {
                "a number from \(range.lowerBound.brief) to \(range.upperBound.brief)"
                    + (isOpen ? ", \(range.lowerBound.brief) excluded" : "")
            }
        case .text(let characters): "a string of \(characters.lowerBound) to \(characters.upperBound) characters"
        case .choice(let words): words.map { "\"\($0)\"" }.joined(separator: " or ")
        case .strings(let count, let bytes, let isSingle):
            "\(isSingle ? "a string or " : "")a list of \(Self.bounds(count)) strings of "
                + "\(bytes.lowerBound) to \(bytes.upperBound) bytes"
        case .tokens(let count): "a list of \(Self.bounds(count)) token ids of the vocabulary"
        case .biases(let count): "an object of \(Self.bounds(count)) members from token ids to numbers"
        case .object(let members): "an object of \(Self.bounds(members)) members"
        case .objects(let count): "a list of \(Self.bounds(count)) objects"
        case .other(let requirement, _): requirement
        }
    }

    private static func bounds(_ count: ClosedRange<Int>) -> String {
        switch (count.lowerBound, count.upperBound) {
        case (let lower, .max): "at least \(lower)"
        case (0, let upper): "at most \(upper)"
        case (let lower, let upper): "\(lower) to \(upper)"
        }
    }
}

extension Double {
    /// Without ".0" where there is no fraction.
    fileprivate var brief: String { Int(exactly: self).map(String.init) ?? description }
}

// Reading fields. Every refusal names the field by its path and says what would have been accepted.
extension JSONFields {
    private func invalid(_ field: RequestField, _ value: JSONValue) -> ServingError {
        invalid(field.key, value, field.requirement)
    }

    private func mismatch(_ field: RequestField, _ value: JSONValue) -> ServingError {
        mismatch(field.key, value, field.requirement)
    }

    func bool(_ field: RequestField) throws(ServingError) -> Bool? { try bool(field.key) }

    /// An integer within the field's range, and at most `limit`. 3.0 is an integer too.
    func integer(_ field: RequestField, upTo limit: Int = .max) throws(ServingError) -> Int? {
        guard case .integer(let range) = field.kind, let value = self[field.key] else { return nil }
        guard let integer = value.exactInteger else {
            if case .number(let number) = value, number.rounded() == number { throw invalid(field, value) }
            throw mismatch(field, value)
        }
        guard range.contains(integer) else { throw invalid(field, value) }
        guard integer <= limit else { throw invalid(field.key, value, "at most \(limit)") }
        return integer
    }

    func number(_ field: RequestField) throws(ServingError) -> Double? {
        guard case .number(let range, let isOpen) = field.kind, let value = self[field.key] else { return nil }
        let number: Double
        switch value {
        case .integer(let integer): number = Double(integer)
        case .number(let double): number = double
        default: throw mismatch(field, value)
        }
        guard range.contains(number), !(isOpen && number == range.lowerBound) else { throw invalid(field, value) }
        return number
    }

    func text(_ field: RequestField) throws(ServingError) -> String? {
        guard let value = self[field.key] else { return nil }
        guard case .string(let text) = value else { throw mismatch(field, value) }
        switch field.kind {
        case .text(let characters) where !characters.contains(text.count): throw invalid(field, value)
        case .choice(let words) where !words.contains(text): throw invalid(field, value)
        default: return text
        }
    }

    func strings(_ field: RequestField) throws(ServingError) -> [String]? {
        guard case .strings(let count, let bytes, let isSingle) = field.kind, let value = self[field.key] else {
            return nil
        }
        let elements: [JSONValue]
        switch value {
        case .string where isSingle: elements = [value]
        case .array(let list): elements = list
        default: throw mismatch(field, value)
        }
        guard count.contains(elements.count) else { throw invalid(field, value) }
        var strings: [String] = []
        for element in elements {
            guard case .string(let text) = element else { throw mismatch(field, element) }
            guard bytes.contains(text.utf8.count) else { throw invalid(field, element) }
            strings.append(text)
        }
        return strings
    }

    /// Token ids below `vocabularyCount`.
    func tokens(_ field: RequestField, vocabularyCount: Int) throws(ServingError) -> [Int32]? {
        guard case .tokens(let count) = field.kind, let value = self[field.key] else { return nil }
        guard case .array(let elements) = value else { throw mismatch(field, value) }
        guard count.contains(elements.count) else { throw invalid(field, value) }
        var tokens: [Int32] = []
        tokens.reserveCapacity(elements.count)
        for element in elements {
            guard element.isNumber else { throw mismatch(field, element) }
            tokens.append(try token(element.exactInteger, field, element, vocabularyCount))
        }
        return tokens
    }

    /// Numbers by token id; the ids are written as strings, as JSON demands of names.
    func biases(_ field: RequestField, vocabularyCount: Int) throws(ServingError) -> [(token: Int32, bias: Double)]? {
        guard case .biases(let count) = field.kind, let value = self[field.key] else { return nil }
        guard case .object(let members) = value else { throw mismatch(field, value) }
        guard count.contains(members.count) else { throw invalid(field, value) }
        var biases: [(token: Int32, bias: Double)] = []
        for member in members {
            let token = try token(Int(member.name), field, .string(member.name), vocabularyCount)
            switch member.value {
            case .integer(let bias): biases.append((token, Double(bias)))
            case .number(let bias): biases.append((token, bias))
            default: throw mismatch(field, member.value)
            }
        }
        return biases
    }

    private func token(
        _ id: Int?, _ field: RequestField, _ value: JSONValue, _ vocabularyCount: Int
    ) throws(ServingError) -> Int32 {
        guard let id, (0..<vocabularyCount).contains(id), let token = Int32(exactly: id) else {
            throw invalid(field.key, value, "made of token ids from 0 to \(vocabularyCount - 1)")
        }
        return token
    }

    func object(_ field: RequestField) throws(ServingError) -> JSONFields? {
        guard case .object(let count) = field.kind, let value = self[field.key] else { return nil }
        guard case .object(let members) = value else { throw mismatch(field, value) }
        guard count.contains(members.count) else { throw invalid(field, value) }
        return JSONFields(path: path + field.key + ".", members: members)
    }

    func objects(_ field: RequestField) throws(ServingError) -> [JSONValue]? {
        guard case .objects(let count) = field.kind, let value = self[field.key] else { return nil }
        guard case .array(let elements) = value else { throw mismatch(field, value) }
        guard count.contains(elements.count) else { throw invalid(field, value) }
        for element in elements {
            guard case .object = element else { throw mismatch(field, element) }
        }
        return elements
    }
}
