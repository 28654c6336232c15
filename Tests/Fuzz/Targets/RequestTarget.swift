// Bytes as the body of each generating endpoint, from the JSON parser to the prompt's tokens.

import Scheduling
import Serving
import Tokenization

enum RequestTarget {
    private static let maxModelLength = 512

    private static let model: ServedModel = {
        let source = """
            {% for m in messages %}<|im_start|>{{ m.role }}
            {{ m.content }}<|im_end|>
            {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
            {% endif %}{{ extra }}
            """
        do {
            return ServedModel(
                tokenizer: ByteVocabulary.tokenizer,
                chatTemplate: try ChatTemplate(source: source, limits: TemplateLimits(steps: 5000)),
                stopTokens: [ByteVocabulary.endTurn], maxModelLength: maxModelLength,
                vocabularyCount: ByteVocabulary.tokenizer.vocabularyCount, maxQueuedRequests: 64, blockSize: 16,
                blockCount: 64, enablePrefixCaching: true, usesPriorities: true)
        } catch {
            preconditionFailure("the template is valid: \(error)")
        }
    }()

    private static let configuration = ServingConfiguration(servedModelNames: ["fuzz"], version: "0")

    private enum Endpoint: CaseIterable { case completions, chat, messages }

    private static func prompts(_ endpoint: Endpoint, _ bytes: [UInt8]) throws(ServingError) -> [[TokenID]] {
        switch endpoint {
        case .completions: try RequestCheck.completion(bytes, model: model, configuration: configuration)
        case .chat: try RequestCheck.chat(bytes, model: model, configuration: configuration)
        case .messages: try RequestCheck.message(bytes, model: model, configuration: configuration)
        }
    }

    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        for endpoint in Endpoint.allCases {
            let prompts: [[TokenID]]
            do throws(ServingError) {
                prompts = try Self.prompts(endpoint, bytes)
            } catch {
                try BrokenPromise.check(refusal: error.description)
                continue
            }
            for tokens in prompts {
                try BrokenPromise.check(
                    !tokens.isEmpty && tokens.count < maxModelLength, "a prompt has \(tokens.count) tokens")
                try BrokenPromise.check(tokens.allSatisfy(model.tokenizer.contains), "a token is not in the vocabulary")
            }
        }
    }
}
