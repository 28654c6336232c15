// From the text of a setting, wherever it was written, to its value. Flags, variables and YAML scalars all arrive as
// text and pass through here, so that `32K` means the same in each.

import JSON

extension Setting {
    /// The value that `texts` name, or the text that is at fault. Every setting but a list takes the last text.
    package func parse(_ texts: [String]) -> Result<SettingValue, ConfigurationProblem.InvalidText> {
        if isList {
            let items = texts.flatMap { Self.items(of: $0) }
            let isValid =
                !items.isEmpty && items.allSatisfy { !$0.isEmpty } && (kind != .bounds || Self.areBounds(items))
            return isValid ? .success(.texts(items)) : .failure(.init(text: texts.joined(separator: ",")))
        }
        guard let text = texts.last else { return .failure(.init(text: "")) }
        return parse(Self.trim(text[...])).map { .success($0) } ?? .failure(.init(text: text))
    }

    /// The texts of a list: those between commas, or of a list in JSON, as vLLM's command lines have it.
    private static func items(of text: String) -> [String] {
        do throws(JSONError) {
            if trim(text[...]).hasPrefix("["), case .array(let elements) = try JSONParser.parse(Array(text.utf8)) {
                return elements.map { if case .string(let item) = $0 { item } else { "" } }
            }
        } catch {
            // Then it is a text that begins with a bracket, such as an address of IPv6.
        }
        return text.split(separator: ",", omittingEmptySubsequences: false).map { trim($0) }
    }

    private func parse(_ text: String) -> SettingValue? {
        if allowsAuto, text.lowercased() == "auto" || text == "-1" { return .auto }
        switch kind {
        case .boolean:
            return Self.booleans[text.lowercased()].map { .boolean($0) }
        case .integer(let range):
            return Quantity.parse(text, units: Quantity.countUnits).flatMap { within(range, $0) }
        case .oneOf(let allowed):
            return Quantity.parse(text, units: Quantity.countUnits)
                .flatMap { allowed.contains($0) ? .integer($0) : nil }
        case .bytes(let range):
            return Quantity.parse(text, units: ByteCount.units).flatMap { within(range, $0) }
        case .duration(let range):
            return Milliseconds.parse(text).flatMap { within(range, $0) }
        case .fraction:
            return Quantity.parse(text + "k", units: Quantity.countUnits).flatMap { within(10...1000, $0) }
        case .choice(let words):
            return words.first { $0 == text.lowercased() }.map { .text($0) }
        case .text, .path:
            return text.isEmpty ? nil : .text(text)
        case .texts, .bounds:
            return nil
        }
    }

    private static func areBounds(_ items: [String]) -> Bool {
        let values = items.compactMap { Double($0) }
        return values.count == items.count && values.count <= maximumBounds
            && zip([0] + values, values).allSatisfy { $0 < $1 && $1.isFinite }
    }

    private func within(_ range: ClosedRange<Int>, _ value: Int) -> SettingValue? {
        range.contains(value) ? .integer(value) : nil
    }

    /// YAML 1.1's words, which operators write in files and variables alike.
    private static let booleans = [
        "true": true, "yes": true, "on": true, "1": true, "false": false, "no": false, "off": false, "0": false,
    ]

    private static func trim(_ text: Substring) -> String {
        var rest = text.drop { $0.isWhitespace }
        while let last = rest.last, last.isWhitespace { rest.removeLast() }
        return String(rest)
    }
}

extension ConfigurationProblem {
    /// A text that is no value of its setting.
    package struct InvalidText: Error, Equatable {
        package let text: String
    }
}
