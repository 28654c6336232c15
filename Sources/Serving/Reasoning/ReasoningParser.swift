// Splits a model's text into what it thinks and what it answers: <think>…</think> at its beginning.
//
// Only the beginning counts: a later <think> is part of the answer, and one inside is part of the thought. Pieces and
// markers together are the text, however it is cut.

/// A piece of text and which of the two it belongs to.
package enum ReasoningPiece: Sendable, Equatable {
    case reasoning(String)
    case content(String)
}

/// Finds the end of the reasoning in a text that arrives in pieces.
package struct ReasoningParser: Sendable {
    private enum Place: Sendable {
        /// Only white space came so far.
        case beginning
        case reasoning
        case content
    }

    private let opener: [UInt8]
    private let closer: [UInt8]
    private var place: Place
    /// What may be the beginning of a marker, or is white space before one.
    private var held: [UInt8] = []

    /// - Parameter isOpen: the prompt ended with the opening marker already.
    package init(isOpen: Bool = false, opener: String = "<think>", closer: String = "</think>") {
        self.opener = Array(opener.utf8)
        self.closer = Array(closer.utf8)
        place = isOpen ? .reasoning : .beginning
    }

    /// Whether a chat template's rendered prompt ends by opening the reasoning.
    package static func isOpen(prompt: String, opener: String = "<think>") -> Bool {
        var end = prompt.utf8[...]
        while let last = end.last, isSpace(last) { end.removeLast() }
        return end.reversed().starts(with: opener.utf8.reversed())
    }

    /// Whether the text so far is in its reasoning, or may still begin with it.
    package var isReasoning: Bool {
        if case .content = place { false } else { true }
    }

    /// Whether the text so far has begun its reasoning and not ended it.
    package var hasBegun: Bool {
        if case .reasoning = place { true } else { false }
    }

    /// Takes the next piece.
    package mutating func append(_ text: String) -> [ReasoningPiece] {
        held += text.utf8
        return advance(isLast: false)
    }

    /// Ends the text. Reasoning that was not closed stays reasoning.
    package mutating func finish() -> [ReasoningPiece] { advance(isLast: true) }

    private mutating func advance(isLast: Bool) -> [ReasoningPiece] {
        var pieces: [ReasoningPiece] = []
        if case .beginning = place { begin(isLast: isLast) }
        if case .reasoning = place { endReasoning(isLast: isLast, &pieces) }
        if case .content = place, !held.isEmpty {
            pieces.append(.content(String(decoding: held, as: UTF8.self)))
            held.removeAll(keepingCapacity: true)
        }
        return pieces
    }

    private mutating func begin(isLast: Bool) {
        let rest = held.drop(while: isSpace)
        if rest.starts(with: opener) {
            held.removeFirst(held.count - rest.count + opener.count)
            place = .reasoning
        } else if isLast || !opener.starts(with: rest) {
            place = .content
        }
    }

    private mutating func endReasoning(isLast: Bool, _ pieces: inout [ReasoningPiece]) {
        var position = 0
        while position < held.count {
            let rest = held[position...].prefix(closer.count)
            if rest.first == closer.first, closer.starts(with: rest), rest.count == closer.count || !isLast { break }
            position += 1
        }
        if position > 0 { pieces.append(.reasoning(String(decoding: held[..<position], as: UTF8.self))) }
        held.removeFirst(position)
        if held.count >= closer.count {
            held.removeFirst(closer.count)
            place = .content
        }
    }
}
