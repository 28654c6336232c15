// A vocabulary small enough to read: every byte, a few merges and a few control tokens. Tests that need no model use it.

import Tokenization

enum TinyVocabulary {
    /// The control tokens, which come first, as in many checkpoints; one is the beginning of another.
    static let control = ["<s>", "</s>", "<|im|>", "<|im|>x", "é!"]
    /// Merges in rank order, in byte-level spelling: Ġ is a space.
    static let merges = ["a a", "aa aa", "b c", "a b", "ab c", "Ġ a", "Ġ Ġ", "d e", "e f", "de f"]
    /// Where the pieces of the merges begin: after the control tokens and the 256 bytes.
    static let firstMerged = Int32(control.count + 256)

    static func definition(_ change: (inout TokenizerDefinition) -> Void = { _ in }) -> TokenizerDefinition {
        let spelled = control + (0..<256).map { spelling(of: UInt8($0)) }
        let merged = merges.map { $0.filter { $0 != " " } }
        let types = [Int32](repeating: 3, count: control.count) + [Int32](repeating: 1, count: 256 + merges.count)
        var definition = TokenizerDefinition(
            model: "gpt2", preTokenizer: "gpt-2", pieces: PackedStrings(spelled + merged),
            merges: PackedStrings(merges), types: types, bos: 0, eos: 1)
        change(&definition)
        return definition
    }

    static func tokenizer(_ change: (inout TokenizerDefinition) -> Void = { _ in }) throws -> Tokenizer {
        try Tokenizer(definition(change))
    }

    /// The id of a byte's own token.
    static func id(of character: Character) -> Int32 {
        Int32(control.count) + Int32(character.utf8.first ?? 0)
    }

    /// The id of the piece that the merge of this rank makes.
    static func id(ofMerge rank: Int) -> Int32 { firstMerged + Int32(rank) }

    /// The character that stands for `byte`, worked out independently of the product's table.
    private static func spelling(of byte: UInt8) -> String {
        let unprintable = (0...255).filter { !(0x21...0x7E ~= $0 || 0xA1...0xAC ~= $0 || 0xAE...0xFF ~= $0) }
        let scalar = unprintable.firstIndex(of: Int(byte)).map { 0x100 + $0 } ?? Int(byte)
        return Unicode.Scalar(UInt32(scalar)).map { String($0) } ?? ""
    }
}

/// A seeded generator, so that a failure repeats. Source: SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
