// What a checkpoint says about its tokenizer, as a plain value. Whoever reads the file fills it in, so this module
// depends on no file format; nothing in it is trusted until `Tokenizer.init` has checked it.

/// The kind of a vocabulary entry, with GGUF's numbers.
package enum TokenType: Int32, Sendable {
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6

    /// Whether text may spell this token out, where the run it lies in allows that.
    var isSpelledOut: Bool { self == .control || self == .userDefined || self == .unknown }

    /// Whether the token steers the model rather than standing for text: hidden when special tokens are skipped, and
    /// never the result of encoding a user's text.
    var isControl: Bool { self == .control || self == .unknown }
}

/// A tokenizer as its checkpoint describes it, unchecked.
package struct TokenizerDefinition: Sendable {
    /// The algorithm: GGUF's `tokenizer.ggml.model`, "gpt2" for byte-level BPE or "llama" for SentencePiece. Not read
    /// where there is a `pipeline`.
    package var model: String
    /// How text is cut before merging: GGUF's `tokenizer.ggml.pre`.
    package var preTokenizer: String
    /// [vocab] the vocabulary in id order, in byte-level spelling ("Ġthe" for " the").
    package var pieces: PackedStrings
    /// [merges] "left right" in rank order, the most eager first. Without any, `scores` say which.
    package var merges: PackedStrings
    /// The byte between left and right; 0xFF where pieces may hold spaces, for no UTF-8 does.
    package var mergeSeparator = UInt8(ascii: " ")
    /// [vocab] how eager SentencePiece is for each piece, or its logarithmic likelihood; empty without.
    package var scores: [Float] = []
    /// [vocab] the GGUF token type of each piece, a raw value of `TokenType`.
    package var types: [Int32]
    /// The token that begins a text, if there is one.
    package var bos: Int32?
    /// The token that ends a text, if there is one.
    package var eos: Int32?
    /// The token for what the vocabulary cannot say; byte-level BPE never emits it.
    package var unk: Int32?
    /// The token that fills up batches, if there is one.
    package var pad: Int32?
    /// Whether `encode` with special tokens puts `bos` first.
    package var addsBOS: Bool
    /// Whether a text that does not begin with a space is encoded as if it did.
    package var addsSpacePrefix: Bool
    /// Whether `encode` with special tokens puts `eos` last.
    package var addsEOS = false
    /// The steps, where the checkpoint spells them out; otherwise `model`, `preTokenizer` and the switches say which.
    package var pipeline: TokenizerPipeline?
    /// How the tokens that text may spell out are looked for, where that is not plainly.
    package var addedTokenRules: [Int32: AddedTokenRule] = [:]
    /// The chat template's source. A user-defined token that it spells out is its markup, and no user's text may be.
    package var markup = ""

    /// A definition; the defaults are those of a checkpoint that says nothing.
    package init(
        model: String,
        preTokenizer: String,
        pieces: PackedStrings,
        merges: PackedStrings,
        types: [Int32],
        bos: Int32? = nil,
        eos: Int32? = nil,
        unk: Int32? = nil,
        pad: Int32? = nil,
        addsBOS: Bool = false,
        addsSpacePrefix: Bool = false
    ) {
        self.model = model
        self.preTokenizer = preTokenizer
        self.pieces = pieces
        self.merges = merges
        self.types = types
        self.bos = bos
        self.eos = eos
        self.unk = unk
        self.pad = pad
        self.addsBOS = addsBOS
        self.addsSpacePrefix = addsSpacePrefix
    }
}
