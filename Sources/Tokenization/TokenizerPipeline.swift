// What a tokenizer does to a text, step by step, as a plain value: both forms of checkpoint are read into it, GGUF's
// names and tokenizer.json's trees, so that there is one tokenizer for them all.

/// The steps from text to ids and back.
package struct TokenizerPipeline: Sendable {
    /// How a piece of text becomes tokens.
    package enum Algorithm: Sendable, Equatable {
        /// Byte-pair encoding of bytes, spelled in the byte alphabet ("Ġthe").
        case byteMerges
        /// Byte-pair encoding of characters, with "▁" for a space.
        case characterMerges
        /// The likeliest way of cutting the text into pieces of known scores.
        case unigram
    }

    /// What becomes of a space with which a decoded text begins.
    package enum LeadingSpace: Sendable, Equatable {
        case kept
        /// One is taken away.
        case dropped
        /// The first token has none at all.
        case droppedFromFirstToken
    }

    package var algorithm: Algorithm
    /// Done to the text between tokens that it spells out.
    package var normalization: [NormalizationStep] = []
    /// Done after it, once the tokens that normalized text spells out are found.
    package var opening: [NormalizationStep] = []
    /// Cuts text into the pieces that are encoded on their own; each step cuts what the one before left.
    package var cuts: [CuttingStep] = []
    /// Whether a character that the vocabulary lacks becomes the tokens of its bytes, "<0xE2>".
    package var usesByteFallback = false
    /// Whether characters in a row that nothing stands for become one unknown token.
    package var fusesUnknown = false
    /// Whether a piece that is a token is that token, whatever its merges make of it.
    package var takesWholePieces = false
    /// Tokens that come before a text and after it.
    package var prefix: [Int32] = []
    package var suffix: [Int32] = []
    /// Replacements that decoding makes in every token: what is looked for, and what takes its place.
    package var replacements: [Replacement] = []
    package var leadingSpace = LeadingSpace.kept

    package init(_ algorithm: Algorithm) { self.algorithm = algorithm }
}

/// One string in place of another.
package struct Replacement: Sendable, Equatable {
    package var pattern: [UInt8]
    package var content: [UInt8]

    package init(_ pattern: [UInt8], by content: [UInt8]) {
        self.pattern = pattern
        self.content = content
    }
}

/// A change to text before it is cut.
package enum NormalizationStep: Sendable, Equatable {
    /// Which text gets a prefix.
    package enum Reach: Sendable, Equatable { case all, firstOnly, none }

    case form(NormalizationForm)
    case replace(Replacement)
    /// Two spaces or more become this.
    case replaceSpaceRuns([UInt8])
    /// Put before a text that is not empty.
    case prepend([UInt8])
    /// Put before a text that is not empty and does not begin with it.
    case prependUnlessThere([UInt8], Reach)
    case strip(left: Bool, right: Bool)
    case lowercase
}

/// A way of cutting text.
package enum CuttingStep: Sendable {
    /// What becomes of the characters at which text is cut.
    package enum Delimiter: String, Sendable {
        case removed = "Removed"
        case isolated = "Isolated"
        case joinsPrevious = "MergedWithPrevious"
        case joinsNext = "MergedWithNext"
        /// Those in a row are one piece.
        case contiguous = "Contiguous"
    }

    /// A set of characters.
    package enum Characters: Sendable { case digits, punctuation, whitespace }

    case pattern(PreTokenizer)
    case characters(Characters, Delimiter)
    case string([UInt8], Delimiter)
    /// `\w+|[^\w\s]+`; what lies between is left out.
    case words
}

/// How a token that text may spell out is looked for.
package struct AddedTokenRule: Sendable, Equatable {
    /// Takes the white space before it, or after it, along.
    package var stripsLeft = false
    package var stripsRight = false
    /// Only where no letter, digit or mark touches it.
    package var isWholeWord = false
    /// Looked for in normalized text, and normalized itself.
    package var isNormalized = false

    package init() {}
}

extension TokenizerPipeline {
    /// "▁", which stands for a space in SentencePiece's vocabularies.
    package static let spaceMark: [UInt8] = [0xE2, 0x96, 0x81]

    /// The steps behind GGUF's names.
    init(_ definition: TokenizerDefinition) throws(TokenizationError) {
        switch definition.model {
        case "gpt2":
            self.init(.byteMerges)
            let cut = try PreTokenizer(named: definition.preTokenizer)
            cuts = [.pattern(cut)]
            takesWholePieces = cut.takesWholePieces
            if cut.composes { normalization = [.form(.canonicalComposition)] }
            if definition.addsSpacePrefix { opening = [.prependUnlessThere([0x20], .all)] }
        case "llama":
            self.init(.characterMerges)
            // Every text gets the prefix, the one after a control token too.
            if definition.addsSpacePrefix { normalization = [.prepend([0x20])] }
            normalization.append(.replace(Replacement([0x20], by: Self.spaceMark)))
            usesByteFallback = true
            replacements = [Replacement(Self.spaceMark, by: [0x20])]
            if definition.addsSpacePrefix { leadingSpace = .dropped }
        default:
            throw .unsupportedModel(definition.model)
        }
        if definition.addsBOS {
            guard let bos = definition.bos else { throw .beginningTokenMissing }
            prefix = [bos]
        }
        if definition.addsEOS, let eos = definition.eos { suffix = [eos] }
    }
}
