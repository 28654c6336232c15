// The forms in which models write calls of functions, and which of them a model's chat template teaches.

import Grammars

/// How a model writes calls. The names are those of the flag `--tool-call-parser`.
package enum ToolCallForm: String, CaseIterable, Sendable {
    /// <tool_call>{"name": …, "arguments": {…}}</tool_call>
    case hermes
    /// {"name": …, "parameters": {…}}, alone or after <|python_tag|>
    case llama3JSON = "llama3_json"
    /// [TOOL_CALLS] [{"name": …, "arguments": {…}}, …] or [TOOL_CALLS]name{…}
    case mistral
    /// [name(key="value", …), …]
    case pythonic

    /// The form that a chat template asks the model for; nil when it knows none of them.
    package static func detect(template: String) -> ToolCallForm? {
        let signs: [(String, ToolCallForm)] = [
            ("<tool_call>", .hermes), ("[TOOL_CALLS]", .mistral), ("<|python_start|>", .pythonic),
            ("func_name1(", .pythonic), ("<|python_tag|>", .llama3JSON), ("\"parameters\": ", .llama3JSON),
        ]
        let bytes = Array(template.utf8)
        // Calls written as XML, which stand between the same tags.
        if ["<function=", "<arg_key>"].contains(where: { occurs(Array($0.utf8), in: bytes) }) { return nil }
        return signs.first { occurs(Array($0.0.utf8), in: bytes) }?.1
    }

    private static func occurs(_ sign: [UInt8], in bytes: [UInt8]) -> Bool {
        bytes.indices.contains { bytes[$0] == sign[0] && bytes[$0...].starts(with: sign) }
    }

    /// A parser for one text.
    package func parser(_ context: ToolCallContext) -> any ToolCallParser {
        CallTextParser(syntax(context), context: context)
    }

    private func syntax(_ context: ToolCallContext) -> CallSyntax {
        let brace = UInt8(ascii: "{")
        switch self {
        case .hermes:
            return CallSyntax(openers: ["<tool_call>"].map { Array($0.utf8) }, closers: [Array("</tool_call>".utf8)]) {
                _ in CallObjectReader(context: context)
            }
        case .llama3JSON:
            return CallSyntax(
                openers: ["<|python_tag|>"].map { Array($0.utf8) }, firstByte: brace,
                closers: ["<|eom_id|>", "<|eot_id|>"].map { Array($0.utf8) },
                separators: [UInt8(ascii: ";"), UInt8(ascii: ",")], needsSeparator: false, follows: { $0 == brace }
            ) { _ in CallObjectReader(context: context) }
        case .mistral:
            return CallSyntax(
                openers: [Array("[TOOL_CALLS]".utf8)], closers: [[UInt8(ascii: "]")]],
                separators: [UInt8(ascii: ",")], follows: { $0 == brace }
            ) { MistralReader(context: context, opening: $0) }
        case .pythonic:
            return CallSyntax(
                openers: [Array("<|python_start|>".utf8)], firstByte: UInt8(ascii: "["),
                closers: ["]", "<|python_end|>"].map { Array($0.utf8) }, separators: [UInt8(ascii: ",")],
                follows: { PythonReader.isName($0) }
            ) { PythonReader(context: context, opening: $0) }
        }
    }
}
