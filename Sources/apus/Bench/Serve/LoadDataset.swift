// What is asked of a server under load: random prompts, prompts that share their beginnings, or a file's.
//
// Random prompts are token ids where the endpoint takes them, so that their lengths are exact and no tokenizer is
// needed; for chats they are words that most vocabularies have as one token each.

import Conformance
import Foundation
import JSON

/// One prompt.
package enum LoadPrompt: Equatable, Sendable {
    case tokens([Int])
    case text(String)
    /// The messages of a chat, as a file gives them.
    case messages(JSONValue)
}

/// One request before it is written.
package struct LoadItem: Equatable, Sendable {
    package let prompt: LoadPrompt
    /// Tokens of the prompt where they are known before the server says so.
    package let promptTokens: Int?
    package let outputTokens: Int

    package init(prompt: LoadPrompt, promptTokens: Int?, outputTokens: Int) {
        self.prompt = prompt
        self.promptTokens = promptTokens
        self.outputTokens = outputTokens
    }
}

/// Where prompts come from; the names are vLLM's.
package enum LoadDataset: Sendable {
    case random(prefix: Int, input: Int, output: Int, rangeRatio: Double)
    case prefixRepetition(prefix: Int, suffix: Int, prefixes: Int, output: Int)
    /// The lines of a file of JSON objects.
    case custom(lines: [CustomLine], output: Int)

    /// A line of a file: `{"prompt": …}` or `{"messages": …}`, with `output_tokens` or `max_tokens` if wanted.
    package struct CustomLine: Sendable {
        let prompt: LoadPrompt
        let outputTokens: Int?
    }

    /// `count` prompts; the same seed gives the same ones.
    /// - Parameters:
    ///   - identifiers: the token ids that random prompts are made of.
    ///   - isText: whether random prompts are words instead.
    package func items(count: Int, seed: UInt64, identifiers: Range<Int>, isText: Bool) -> [LoadItem] {
        var numbers = SeededNumbers(seed)
        func random(_ length: Int) -> [Int] {
            (0..<length).map { _ in Int.random(in: identifiers, using: &numbers) }
        }
        func item(_ tokens: [Int], output: Int) -> LoadItem {
            LoadItem(
                prompt: isText ? .text(Self.words(tokens)) : .tokens(tokens), promptTokens: isText ? nil : tokens.count,
                outputTokens: output)
        }
        switch self {
        case .random(let prefix, let input, let output, let rangeRatio):
            func length(_ mean: Int) -> Int {
                let spread = Int((Double(mean) * rangeRatio).rounded(.down))
                return max(1, Int.random(in: mean - spread...mean + spread, using: &numbers))
            }
            let shared = random(prefix)
            return (0..<count).map { _ in
                let input = length(input)
                let output = length(output)
                return item(shared + random(input), output: output)
            }
        case .prefixRepetition(let prefix, let suffix, let prefixes, let output):
            let shared = (0..<prefixes).map { _ in random(prefix) }
            return (0..<count).map { item(shared[$0 % prefixes] + random(suffix), output: output) }
                .shuffled(using: &numbers)
        case .custom(let lines, let output):
            // As many as are asked for, from the beginning again when the file is shorter.
            return (0..<(lines.isEmpty ? 0 : count)).map { index in
                let line = lines[index % lines.count]
                return LoadItem(
                    prompt: line.prompt, promptTokens: nil, outputTokens: line.outputTokens ?? output)
            }
        }
    }

    /// Reads the lines of a file; empty ones are skipped.
    package static func lines(of text: String, path: String) throws(LoadError) -> [CustomLine] {
        var lines: [CustomLine] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard !line.allSatisfy(\.isWhitespace) else { continue }
            func problem(_ reason: String) -> LoadError {
                .unusableDataset(path: path, line: index + 1, reason: reason)
            }
            let value: JSONValue
            do throws(JSONError) {
                value = try JSONParser.parse(Array(line.utf8))
            } catch {
                throw problem(error.reason)
            }
            guard case .object = value else { throw problem("it is \(value.kind) and not an object") }
            guard let prompt = prompt(value) else {
                throw problem("it has neither a prompt (a text or token ids) nor messages")
            }
            let output = value["output_tokens"]?.exactInteger ?? value["max_tokens"]?.exactInteger
            if let output, output < 1 { throw problem("it asks for \(output) tokens") }
            lines.append(CustomLine(prompt: prompt, outputTokens: output))
        }
        guard !lines.isEmpty else { throw .unusableDataset(path: path, line: 1, reason: "there is no line in it") }
        return lines
    }

    private static func prompt(_ value: JSONValue) -> LoadPrompt? {
        if case .string(let text)? = value["prompt"] { return .text(text) }
        if case .array(let elements)? = value["prompt"] {
            let tokens = elements.compactMap(\.exactInteger)
            return tokens.count == elements.count && !tokens.isEmpty ? .tokens(tokens) : nil
        }
        if let messages = value["messages"], case .array = messages { return .messages(messages) }
        return nil
    }

    /// Words in place of token ids.
    private static func words(_ tokens: [Int]) -> String {
        tokens.map { vocabulary[$0 % vocabulary.count] }.joined(separator: " ")
    }

    private static let vocabulary = """
        time year people way day man thing woman life child world school state family student group country problem \
        hand part place case week company system program question work number night point home water room mother \
        area money story fact month lot right study book eye job word business issue side kind head house service \
        friend father power hour game line end member law car city community name president team minute idea body \
        information back parent face others level office door health person art war history party result change \
        morning reason research girl guy moment air teacher force education
        """.split(separator: " ").map { String($0) }
}

extension JSONValue {
    /// The member called `name` of an object.
    subscript(name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    /// The same value for writing.
    var text: JSONText {
        switch self {
        case .null: .null
        case .bool(let value): .boolean(value)
        case .integer(let value): .integer(value)
        case .number(let value): .decimal(value, places: 9)
        case .string(let value): .string(value)
        case .array(let elements): .array(elements.map(\.text))
        case .object(let members): .object(members.map { ($0.name, $0.value.text) })
        }
    }
}
