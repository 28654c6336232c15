// What can be wrong with a configuration, and where. Problems are collected, never thrown one by one: an operator
// repairs a file once, not once per line.

/// Where a value came from.
package enum Origin: Sendable, Equatable {
    case flag
    case environment
    /// Line numbers start at 1.
    case file(path: String, line: Int)
    case builtIn
}

/// One thing that is wrong, said in a sentence that names the place, the value and the repair.
package struct ConfigurationProblem: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Reason: Sendable, Equatable {
        /// A name that is not a setting; `suggestion` is the nearest one that is.
        case unknown(name: String, suggestion: String?)
        /// A value that its setting does not take.
        case invalid(name: String, value: String, expectation: String)
        /// A YAML value of the wrong form: a mapping, or nothing at all.
        case misshapen(name: String, form: String)
        /// A setting that must be given was not.
        case missing(name: String, repair: String)
        /// Settings that are each valid but contradict one another, as a sentence.
        case contradiction(String)
        /// The file could not be read, as a sentence.
        case unreadableFile(String)
    }

    package let origin: Origin
    package let reason: Reason

    package init(_ reason: Reason, from origin: Origin = .builtIn) {
        self.origin = origin
        self.reason = reason
    }

    package var description: String {
        let sentence =
            switch reason {
            case .unknown(let name, let suggestion):
                "\(name) is not a setting." + (suggestion.map { " Did you mean \($0)?" } ?? "")
            case .invalid(let name, let value, let expectation):
                "\(name) is \"\(Self.excerpt(value))\" but must be \(expectation)."
            case .misshapen(let name, let form):
                "\(name) holds \(form); it takes a single value, or a list where the setting is a list."
            case .missing(let name, let repair):
                "\(name) is not given. \(repair)"
            case .contradiction(let sentence), .unreadableFile(let sentence):
                sentence
            }
        if case .file(let path, let line) = origin { return "\(path):\(line): \(sentence)" }
        return sentence
    }

    /// The beginning of a value, on one line, so that a message stays a message.
    private static func excerpt(_ value: String) -> String {
        let line = String(value.prefix(80).map { $0.isNewline ? " " : $0 })
        return line.count < value.count ? line + "…" : line
    }
}

/// Everything that is wrong with a configuration.
package struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    /// At least one.
    package let problems: [ConfigurationProblem]

    package init(_ problems: [ConfigurationProblem]) {
        self.problems = problems
    }

    package var description: String {
        let count = problems.count == 1 ? "a problem" : "\(problems.count) problems"
        let heading = "The configuration has \(count):"
        return ([heading] + problems.map { "  \($0)" }).joined(separator: "\n")
    }
}
