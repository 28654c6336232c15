// What the text of forced calls must look like, for requests that demand a call or one that fits its schema exactly.

import Grammars

/// A function that may be called.
package struct ToolGrammar: Sendable {
    package let name: String
    /// The JSON text of its arguments, an object.
    package let arguments: Expression

    package init(name: String, arguments: Expression) {
        self.name = name
        self.arguments = arguments
    }
}

extension ToolCallForm {
    /// The text of one call of one of these functions, or of one to `atMost` calls.
    package func grammar(_ tools: [ToolGrammar], atMost: Int = 1) -> Expression {
        switch self {
        case .hermes:
            let call = surrounded("<tool_call>\n", object(tools, arguments: "arguments"), "\n</tool_call>")
            return list(call, separator: "\n", atMost: atMost)
        case .llama3JSON: return list(object(tools, arguments: "parameters"), separator: "; ", atMost: atMost)
        case .mistral:
            let objects = list(object(tools, arguments: "arguments"), separator: ", ", atMost: atMost)
            let named = Expression.choice(tools.map { surrounded("[TOOL_CALLS]" + $0.name, $0.arguments, "") })
            return .choice([surrounded("[TOOL_CALLS] [", objects, "]"), list(named, separator: "", atMost: atMost)])
        case .pythonic:
            let call = Expression.choice(tools.map { surrounded("\($0.name)(**", $0.arguments, ")") })
            return surrounded("[", list(call, separator: ", ", atMost: atMost), "]")
        }
    }

    private func surrounded(_ before: String, _ inner: Expression, _ after: String) -> Expression {
        .sequence([.text(before), inner, .text(after)])
    }

    private func object(_ tools: [ToolGrammar], arguments: String) -> Expression {
        .choice(
            tools.map { tool in
                surrounded("{\"name\": \(quoted(tool.name)), \"\(arguments)\": ", tool.arguments, "}")
            })
    }

    private func list(_ element: Expression, separator: String, atMost: Int) -> Expression {
        guard atMost > 1 else { return element }
        let further = Expression.sequence([.text(separator), element])
        return .sequence([element, .repetition(further, atLeast: 0, atMost: atMost - 1)])
    }

    /// A name as a JSON string. Names of functions are checked before and hold nothing that must be escaped but, at
    /// most, a quote or a backslash.
    private func quoted(_ name: String) -> String {
        var text = "\""
        for scalar in name.unicodeScalars {
            if scalar == "\"" || scalar == "\\" { text.unicodeScalars.append("\\") }
            text.unicodeScalars.append(scalar)
        }
        return text + "\""
    }
}
