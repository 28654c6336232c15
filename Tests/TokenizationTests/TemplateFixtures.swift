// Reads the committed templates and their goldens, and JSON as the data of a template.

import Foundation
import Tokenization

/// The folder of templates, and what Python's jinja2 makes of them.
struct TemplateFixtures {
    /// One template with one context.
    struct Case {
        var name: String
        var source: String
        var context: [String: Any]
        /// The text, or nil where Python fails.
        var output: String?
    }

    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fixtures/templates")

    static func source(_ name: String) throws -> String {
        String(decoding: try Data(contentsOf: folder.appendingPathComponent(name)), as: UTF8.self)
    }

    static func sources() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".jinja") }.sorted()
            .map(source)
    }

    static func cases() throws -> (now: Int64, cases: [Case]) {
        let data = try Data(contentsOf: folder.appendingPathComponent("goldens.json"))
        guard let document = try JSONSerialization.jsonObject(with: data) as? [String: Any],
            let now = document["now"] as? Int, let shared = document["data"] as? [String: Any],
            let cases = document["cases"] as? [[String: Any]]
        else { throw CocoaError(.coderReadCorrupt) }
        return (
            Int64(now),
            try cases.map { item in
                Case(
                    name: item["name"] as? String ?? "",
                    source: try (item["file"] as? String).map(source) ?? item["source"] as? String ?? "",
                    context: item["context"] as? [String: Any] ?? shared, output: item["output"] as? String)
            }
        )
    }

    /// What a template is given for a context of the goldens.
    static func input(_ context: [String: Any], now: Int64) -> ChatTemplateInput {
        let reserved = ["messages", "tools", "add_generation_prompt"]
        return ChatTemplateInput(
            messages: (context["messages"] as? [Any] ?? []).map(value),
            addGenerationPrompt: context["add_generation_prompt"] as? Bool ?? false, bosToken: "<s>",
            eosToken: "</s>", tools: context["tools"].map(value),
            arguments: context.filter { !reserved.contains($0.key) }.map { .init($0.key, value($0.value)) },
            now: TemplateClock(secondsSince1970: now))
    }

    /// JSON as a template's data, members by name.
    static func value(_ json: Any) -> TemplateValue {
        switch json {
        case let text as String: return .string(text)
        case let elements as [Any]: return .array(elements.map(value))
        case let members as [String: Any]:
            return .object(members.keys.sorted().map { .init($0, members[$0].map(value) ?? .null) })
        case let number as NSNumber:
            switch unsafe String(cString: number.objCType) {
            case "c": return .bool(number.boolValue)
            case "d", "f": return .float(number.doubleValue)
            default: return .int(number.intValue)
            }
        default: return .null
        }
    }
}
