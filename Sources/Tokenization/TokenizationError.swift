// Everything that can be wrong with a tokenizer's definition or with what is asked of a tokenizer.

/// Why a tokenizer could not be made, or could not do what was asked.
package enum TokenizationError: Error, Equatable, Sendable {
    /// The checkpoint names a tokenizer algorithm that is not implemented.
    case unsupportedModel(String)
    /// The checkpoint names a way of cutting text that is not implemented.
    case unsupportedPreTokenizer(String)
    /// The vocabulary is empty or larger than the limit.
    case vocabularySize(count: Int, limit: Int)
    /// There are more merges than the limit.
    case tooManyMerges(count: Int, limit: Int)
    /// There is not one token type for each piece.
    case typeCount(types: Int, pieces: Int)
    /// There is not one score for each piece, where the algorithm goes by scores.
    case scoreCount(scores: Int, pieces: Int)
    /// A file of the tokenizer says something that is not understood or not supported.
    case malformedFile(file: String, field: String, reason: String)
    /// A token type is none of GGUF's.
    case unknownTokenType(token: Int, type: Int32)
    /// Two ids have the same piece.
    case duplicatePiece(piece: String, first: Int, second: Int)
    /// A piece is longer than the limit.
    case pieceTooLong(token: Int, bytes: Int, limit: Int)
    /// The pieces that text may spell out are longer together than the limit.
    case controlPiecesTooLong(bytes: Int, limit: Int)
    /// A merge is not two pieces with a space between them.
    case malformedMerge(merge: Int, text: String)
    /// A merge names, or makes, a piece that the vocabulary lacks.
    case mergeOfUnknownPiece(merge: Int, piece: String)
    /// A merge takes or makes a control token, so that a user's text could become one.
    case mergeOfControlToken(merge: Int, piece: String)
    /// A named token's id lies outside the vocabulary.
    case specialTokenOutOfRange(name: String, id: Int32, vocabulary: Int)
    /// A beginning-of-text token is to be added, but none is named.
    case beginningTokenMissing
    /// An id to decode lies outside the vocabulary.
    case tokenOutOfRange(id: Int32, vocabulary: Int)
    /// The text to encode is longer than the caller allows.
    case textTooLong(bytes: Int, limit: Int)
    /// The text to encode came to more tokens than the caller allows.
    case tooManyTokens(limit: Int)
}

extension TokenizationError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unsupportedModel(let name):
            """
            The tokenizer model "\(name)" is not supported. Use a checkpoint whose tokenizer model is "gpt2" or "llama".
            """
        case .unsupportedPreTokenizer(let name):
            """
            The pre-tokenizer "\(name)" is not supported. Use a checkpoint with one of: \
            \(PreTokenizer.names.joined(separator: ", ")).
            """
        case .vocabularySize(let count, let limit):
            "The tokenizer has \(count) pieces; it must have between 1 and \(limit)."
        case .tooManyMerges(let count, let limit):
            "The tokenizer has \(count) merges; at most \(limit) are accepted."
        case .typeCount(let types, let pieces):
            "The tokenizer has \(types) token types for \(pieces) pieces; there must be one for each."
        case .scoreCount(let scores, let pieces):
            "The tokenizer has \(scores) scores for \(pieces) pieces; there must be one for each."
        case .malformedFile(let file, let field, let reason): "\(file): \(field) \(reason)"
        case .unknownTokenType(let token, let type):
            "Token \(token) has type \(type); token types are 1 to 6."
        case .duplicatePiece(let piece, let first, let second):
            "Tokens \(first) and \(second) are both \"\(piece)\"; each piece must have one id."
        case .pieceTooLong(let token, let bytes, let limit):
            "The piece of token \(token) has \(bytes) bytes; at most \(limit) are accepted."
        case .controlPiecesTooLong(let bytes, let limit):
            "The control and user-defined pieces have \(bytes) bytes together; at most \(limit) are accepted."
        case .malformedMerge(let merge, let text):
            "Merge \(merge) is \"\(text)\"; it must be two pieces with a space between them."
        case .mergeOfUnknownPiece(let merge, let piece):
            "Merge \(merge) needs the piece \"\(piece)\", which is not in the vocabulary."
        case .mergeOfControlToken(let merge, let piece):
            "Merge \(merge) involves the control token \"\(piece)\", so ordinary text could become it."
        case .specialTokenOutOfRange(let name, let id, let vocabulary):
            "The \(name) token has id \(id); the vocabulary ends at \(vocabulary - 1)."
        case .beginningTokenMissing:
            "The tokenizer is to add a beginning-of-text token, but names none."
        case .tokenOutOfRange(let id, let vocabulary):
            "There is no token \(id); ids are 0 to \(vocabulary - 1)."
        case .textTooLong(let bytes, let limit):
            "The text has \(bytes) bytes; at most \(limit) are accepted. Shorten it."
        case .tooManyTokens(let limit):
            "The text comes to more than \(limit) tokens, which is the most accepted. Shorten it."
        }
    }
}
