// What of a server a request's way refers to but never meets while it is fuzzed: the state that all requests share and
// the threads that tokenize. They stand in so that the fuzzer is built without the packages for connections.

struct ServingState: Sendable {
    let configuration: ServingConfiguration
    let model: ServedModel
    let constraints: ConstraintLibrary

    var encoder: PromptEncoder { PromptEncoder(model: model) }
}

final class TokenizerThreads: Sendable {
    func run<Value: Sendable>(
        _ body: @escaping @Sendable () throws(ServingError) -> Value
    ) async throws(ServingError) -> Value { try body() }
}
