// `apus generate`: one prompt, its completion on standard output as it is made, and its speed on standard error.

import ArgumentParser
import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tokenization

struct GenerateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Complete one prompt.",
        discussion: "The text goes to standard output as it is generated, a line of statistics to standard error.")

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String
    @Option(help: "The prompt; - reads standard input.") var prompt: String
    @Option(help: "Most tokens to generate.") var maxTokens = 128
    @Option(help: "0 takes the most likely token; higher is more random, up to 2.") var temperature = 0.0
    @Option(help: "Sample from the most likely tokens up to this mass.") var topP = 1.0
    @Option(help: "Seed of the sampling.") var seed: UInt64 = 0
    @Option(help: "Folder of a LoRA adapter to generate with.") var lora: String?
    @Flag(help: "Frame the prompt as a user's message, by the model's chat template.") var chat = false
    @Flag(help: "Print one JSON object at the end instead.") var json = false
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions
    @OptionGroup(title: "KV cache") var cacheOptions: CacheOptions

    func validate() throws {
        guard maxTokens >= 1 else { throw ValidationError("--max-tokens is \(maxTokens); at least 1 is needed.") }
        guard (0...2).contains(temperature) else {
            throw ValidationError("--temperature is \(temperature) but must be from 0 to 2.")
        }
        guard topP > 0, topP <= 1 else { throw ValidationError("--top-p is \(topP) but must be above 0, up to 1.") }
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(flags: [modelOptions, computeOptions, cacheOptions], model: model),
            environment: environment)
        let located = try ModelLocator.locate(model, home: settings.text(.home), environment: environment)
        let limits = try lora.map { path in
            let config = try AdapterCheckpoint(path: path, maxRank: AdapterLimits.largestRank).config
            return AdapterLimits(count: 1, maxRank: config.rank)
        }
        let running = try await RunningModel.start(path: located.path, settings: settings) { configuration in
            configuration.maxSequences = 1
            configuration.adapters = limits
        }
        let tokens = try encode(readPrompt(), for: running.model)
        var completion = Completion(tokenizer: running.model.tokenizer, promptTokens: tokens.count)
        for await event in try await submit(tokens, to: running) {
            let text = try completion.take(event)
            if !json { try write(text) }
        }
        try await finish(completion, running.engine)
    }

    private func readPrompt() throws -> String {
        guard prompt == "-" else { return prompt }
        let data = try FileHandle.standardInput.readToEnd() ?? Data()
        return String(decoding: data, as: UTF8.self)
    }

    private func encode(_ prompt: String, for model: ModelFile) throws -> [TokenID] {
        guard chat else { return try model.tokenizer.encode(prompt) }
        guard let template = model.chatTemplate else { throw StartupError.noChatTemplate(model: self.model) }
        let tokenizer = model.tokenizer
        let runs = try template.render(
            ChatTemplateInput(
                messages: [["role": "user", "content": .string(prompt)]], addGenerationPrompt: true,
                bosToken: tokenizer.bos.flatMap { tokenizer.text(of: $0) } ?? "",
                eosToken: tokenizer.eos.flatMap { tokenizer.text(of: $0) } ?? ""))
        return try tokenizer.encode(runs, addSpecialTokens: false)
    }

    private func submit(_ tokens: [TokenID], to running: RunningModel) async throws -> AsyncStream<EngineEvent> {
        let engine = running.engine
        var adapter: AdapterReference?
        if let lora, let layout = engine.information.adapters {
            adapter = try await EngineAdapters.load(lora, name: lora, layout: layout, on: engine)
        }
        let request = GenerationRequest(
            id: engine.makeRequestID(), prompt: tokens, maxNewTokens: maxTokens,
            stopTokens: running.model.stopTokens,
            sampling: SamplingParameters(temperature: Float(temperature), topP: Float(topP), seed: seed),
            arrival: engine.now, adapter: adapter)
        let reservation = try engine.reserve(requests: 1, promptTokenEstimate: tokens.count)
        guard let stream = try engine.submit([request], reservation: reservation).first else {
            throw EngineError.shutdown
        }
        return stream
    }

    private func finish(_ completion: Completion, _ engine: Engine) async throws {
        var completion = completion
        let rest = completion.end()
        if json {
            try write(completion.json.line + "\n")
        } else {
            try write(rest + "\n")
            FileHandle.standardError.write(Data((completion.statistics + "\n").utf8))
        }
        await engine.drain(timeout: .zero)
    }

    private func write(_ text: String) throws {
        guard !text.isEmpty else { return }
        try FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
    }
}

/// A completion as it grows, and how fast it did.
struct Completion {
    private let tokenizer: Tokenizer
    private let promptTokens: Int
    private var detokenizer: StreamingDetokenizer
    private var text = ""
    private var reason = "abort"
    private var usage: GenerationUsage?
    private let start = ContinuousClock.now
    private var firstToken: Duration?
    private var lastToken: Duration?
    private var tokenCount = 0

    init(tokenizer: Tokenizer, promptTokens: Int) {
        self.tokenizer = tokenizer
        self.promptTokens = promptTokens
        detokenizer = StreamingDetokenizer(tokenizer, skipSpecialTokens: true)
    }

    /// Takes one event and returns the text that it completes.
    /// - Throws: `EngineError` when the request failed.
    mutating func take(_ event: EngineEvent) throws -> String {
        switch event {
        case .promptScores, .pooled: return ""
        case .token(let sample):
            let elapsed = start.duration(to: .now)
            firstToken = firstToken ?? elapsed
            lastToken = elapsed
            tokenCount += 1
            let piece = detokenizer.append(sample.token)
            text += piece
            return piece
        case .finished(let reason, let usage):
            self.reason =
                switch reason {
                case .stop, .complete: "stop"
                case .length: "length"
                case .repetition: "repetition"
                case .abort, .deadline: "abort"
                case .error: "error"
                }
            self.usage = usage
            return ""
        case .failed(let error):
            throw error
        }
    }

    /// Ends the text and returns what was held back.
    mutating func end() -> String {
        let rest = detokenizer.finish()
        text += rest
        return rest
    }

    /// Tokens a second after the first one; nil for a single token.
    private var decodeRate: Double? {
        guard let firstToken, let lastToken, tokenCount > 1, lastToken > firstToken else { return nil }
        return Double(tokenCount - 1) / (lastToken - firstToken).seconds
    }

    var statistics: String {
        "\(promptTokens) prompt tokens (\(usage?.cachedTokens ?? 0) cached), "
            + "first token after \(firstToken.map { Decimals.format($0.seconds * 1000, places: 1) } ?? "-") ms; "
            + "\(tokenCount) tokens" + (decodeRate.map { " at \(Decimals.format($0, places: 1)) tokens/s" } ?? "")
            + "; ended by \(reason)"
    }

    var json: JSONText {
        .object([
            ("text", .string(text)), ("finish_reason", .string(reason)), ("prompt_tokens", .integer(promptTokens)),
            ("completion_tokens", .integer(tokenCount)),
            ("time_to_first_token_seconds", firstToken.map { .decimal($0.seconds, places: 4) } ?? .null),
            ("tokens_per_second", decodeRate.map { .decimal($0, places: 2) } ?? .null),
        ])
    }
}
