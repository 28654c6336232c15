// What can go wrong with a chat template: at load (malformed, unknown construct) or while it renders
// (a wrong operation, an exhausted budget, the template's own `raise_exception`).
// Every case knows where in the template's source it happened.

/// A place in a template's source, as an editor shows it.
package struct TemplateLocation: Sendable, Equatable, CustomStringConvertible {
    /// The line, from 1.
    package var line: Int32
    /// The column in Unicode scalars, from 1.
    package var column: Int32

    package init(line: Int32, column: Int32) {
        self.line = line
        self.column = column
    }

    package var description: String { "line \(line), column \(column)" }
}

/// The error of the template engine; `description` is a sentence for the operator.
package enum TemplateError: Error, Equatable, CustomStringConvertible {
    /// A kind of name the language is extended by.
    package enum Construct: String, Sendable {
        case tag, filter, test, function
    }

    /// A budget of `TemplateLimits`.
    package enum Budget: String, Sendable {
        case source = "bytes of source"
        case steps = "steps"
        case output = "bytes of text"
        case nesting = "levels of nesting"
        case recursion = "levels of recursion"
        case elements = "elements in one collection"
    }

    /// The source does not follow the grammar.
    case malformed(TemplateLocation, reason: String)
    /// The source uses a tag, filter, test or function this engine does not have.
    case unknown(Construct, name: String, TemplateLocation)
    /// An operation was applied to values it is not defined for.
    case invalid(TemplateLocation, reason: String)
    /// A budget is used up.
    case exceeded(Budget, limit: Int, TemplateLocation)
    /// The template called `raise_exception`; the message is its author's, and may quote the caller's data.
    case raised(message: String, TemplateLocation)

    /// Where in the source it happened.
    package var location: TemplateLocation {
        switch self {
        case .malformed(let location, _), .unknown(_, _, let location), .invalid(let location, _),
            .exceeded(_, _, let location), .raised(_, let location):
            location
        }
    }

    package var description: String {
        switch self {
        case .malformed(let location, let reason):
            "the chat template is malformed at \(location): \(reason)"
        case .unknown(let construct, let name, let location):
            "the chat template uses the \(construct.rawValue) '\(name)' at \(location), which is not supported"
        case .invalid(let location, let reason):
            "the chat template failed at \(location): \(reason)"
        case .exceeded(let budget, let limit, let location):
            "the chat template needs more than \(limit) \(budget.rawValue) at \(location)"
        case .raised(let message, let location):
            "the chat template refused the conversation at \(location): \(message)"
        }
    }
}
