// What is fuzzed: every parser that reads a stranger's bytes, each as one function of them.
//
// `make fuzz` drives these with libFuzzer, and FuzzTests replays the corpora in every run of the tests. To add a
// target: a case here, a file beside this one, and a folder of a few inputs under Corpus.

/// A parser under test.
package enum FuzzTarget: String, CaseIterable, Sendable {
    /// A body of /v1/completions and of /v1/chat/completions, up to its tokens.
    case request
    /// A chat template, compiled and rendered within small budgets.
    case template
    /// A tokenizer's definition and a text.
    case tokenizer
    /// A GGUF checkpoint.
    case gguf
    /// A safetensors checkpoint, or the index of one in several files.
    case safetensors
    /// A model's configuration, what it says of sampling, or that of an adapter.
    case config
    /// A JSON Schema, made a grammar and followed for a while.
    case schema
    /// A regular expression, likewise.
    case regex
    /// A grammar in GBNF or Lark's language, likewise.
    case grammar
    /// A model's text with calls and reasoning in it.
    case tools

    /// Runs it on `bytes`. That it refuses them is well; that it traps, hangs or returns nonsense is not.
    package func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        switch self {
        case .request: try RequestTarget.run(bytes)
        case .template: try TemplateTarget.run(bytes)
        case .tokenizer: try TokenizerTarget.run(bytes)
        case .gguf: try CheckpointTarget.run(bytes)
        case .safetensors: try SafetensorsTarget.run(bytes)
        case .config: try ConfigTarget.run(bytes)
        case .schema: try SchemaTarget.run(bytes)
        case .regex: try RegexTarget.run(bytes)
        case .grammar: try GrammarTarget.run(bytes)
        case .tools: try ToolsTarget.run(bytes)
        }
    }
}

/// A parser returned what it promises not to.
package struct BrokenPromise: Error, CustomStringConvertible {
    package let description: String

    /// Throws unless `holds`.
    package static func check(_ holds: Bool, _ promise: @autoclosure () -> String) throws(BrokenPromise) {
        guard holds else { throw BrokenPromise(description: promise()) }
    }

    /// An error's text goes to a client or an operator: it says something, and it is not as long as its cause.
    package static func check(refusal text: String, limit: Int = 2048) throws(BrokenPromise) {
        try check(!text.isEmpty && text.utf8.count <= limit, "a refusal has \(text.utf8.count) bytes")
    }
}
