// Shapes of answers made into grammars over the model's vocabulary, on a thread of its own, before the request is
// admitted. Shapes that come again, as those of one program do, are found here; nothing is kept on disk.

import Grammars
import Synchronization
import Tokenization

/// What a grammar is made from; equal sources have equal grammars.
struct ConstraintSource: Sendable, Hashable {
    /// The form of the text; with `calls`, the text has this form or is calls.
    var shape: OutputShape?
    /// Whether JSON has no spaces but those inside strings.
    var isCompact = false
    var calls: ToolMandate?
    /// What may or must come before it.
    var reasoning = ReasoningPrefix.none
    /// The field that refusals name.
    var field: String
}

/// Reasoning in front of an answer's text.
enum ReasoningPrefix: Sendable, Hashable {
    /// The model does not reason, or has been told not to.
    case none
    /// The model may reason first.
    case possible
    /// The prompt has begun the reasoning; the model ends it.
    case begun
}

/// The grammars of one model. Thread-safe.
final class ConstraintLibrary: Sendable {
    private struct Shelf: Sendable {
        var trie: TokenTrie?
        var grammars: [ConstraintSource: TokenGrammar] = [:]
        /// The sources of `grammars`, those used last at the end.
        var order: [ConstraintSource] = []
        /// Calls that compile or wait to.
        var waiting = 0
    }

    private let model: ServedModel
    private let thread: TokenizerThreads
    private let shelf = Mutex(Shelf())
    /// How the model divides texts that are forced.
    private let division: TextDivision

    /// Grammars kept at most; each has its own bound in bytes (`GrammarLimits`).
    static let capacity = 32
    /// Calls that may wait for the thread.
    static let maxWaiting = 64

    init(model: ServedModel, thread: TokenizerThreads) {
        self.model = model
        self.thread = thread
        let tokenizer = model.tokenizer
        division = TextDivision { text in
            do {
                return try tokenizer.encode(text, allowsControlTokens: true, addSpecialTokens: false)
            } catch {
                // Longer than any text that is forced at once; nothing depends on it.
                return []
            }
        }
    }

    /// The constraint for `source`; refuses what cannot be guaranteed.
    func constraint(for source: ConstraintSource) async throws(ServingError) -> TokenGrammar {
        let (known, isAdmitted) = shelf.withLock { shelf in
            let known = Self.find(source, in: &shelf)
            guard known == nil, shelf.waiting < Self.maxWaiting else { return (known, false) }
            shelf.waiting += 1
            return (nil, true)
        }
        if let known { return known }
        guard isAdmitted else { throw .constraintsBusy(limit: Self.maxWaiting) }
        defer { shelf.withLock { $0.waiting -= 1 } }
        return try await thread.run { () throws(ServingError) in try self.compile(source) }
    }

    private func compile(_ source: ConstraintSource) throws(ServingError) -> TokenGrammar {
        // Somebody before us in the queue may have asked for the same.
        if let known = shelf.withLock({ Self.find(source, in: &$0) }) { return known }
        let trie = trie()
        let grammar: CompiledGrammar
        do {
            // Bytes that no token has are in no text, or the model would be led to where it cannot go on.
            grammar = try CompiledGrammar(try source.grammar(), unwritable: trie.missingBytes)
        } catch {
            throw .constraint(field: source.field, error)
        }
        let constraint = TokenGrammar(grammar, trie: trie, division: division)
        shelf.withLock { shelf in
            if shelf.grammars.updateValue(constraint, forKey: source) == nil { shelf.order.append(source) }
            while shelf.order.count > Self.capacity { shelf.grammars[shelf.order.removeFirst()] = nil }
        }
        return constraint
    }

    private static func find(_ source: ConstraintSource, in shelf: inout Shelf) -> TokenGrammar? {
        guard let known = shelf.grammars[source] else { return nil }
        if shelf.order.last != source, let index = shelf.order.firstIndex(of: source) {
            shelf.order.append(shelf.order.remove(at: index))
        }
        return known
    }

    /// The vocabulary as a tree; made when the first constraint is asked for. Only called on the thread.
    private func trie() -> TokenTrie {
        if let trie = shelf.withLock({ $0.trie }) { return trie }
        let tokenizer = model.tokenizer
        let markers = Set(model.markers.compactMap { tokenizer.controlToken(spelled: $0) })
        // The model may have more rows than the tokenizer has pieces; what spells nothing is never allowed.
        let tokens = (0..<Int32(clamping: model.vocabularyCount)).map { token -> [UInt8]? in
            guard tokenizer.contains(token) else { return nil }
            if tokenizer.isControl(token), !markers.contains(token) { return nil }
            return tokenizer.bytes(of: token).map(Array.init)
        }
        let trie = TokenTrie(tokens: tokens, endTokens: [])
        shelf.withLock { $0.trie = trie }
        return trie
    }
}
