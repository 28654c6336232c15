// Bytes as changes to a tokenizer's definition and a text: lines that begin with a letter and a space change the
// definition, the first other line begins the text.
//
//     n PIECE, c PIECE, u PIECE   a normal, control or user-defined piece more
//     m LEFT RIGHT                a merge more
//     t PIECE TYPE                the type of a piece, by their numbers
//     p NAME, b ID, e ID, a, s    the pre-tokenizer, the special tokens, the two switches
//     x                           without the 256 bytes: not every text can be said
//
// Bytes that begin with a brace are a tokenizer.json up to the first NUL, and the text after it.

import Tokenization

enum TokenizerTarget {
    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        if bytes.first == UInt8(ascii: "{") { return try runFile(bytes) }
        var definition = ByteVocabulary.definition
        var rest = bytes[...]
        while let change = nextChange(&rest) { apply(change, to: &definition) }
        // The program's own words may be any bytes, a text is UTF-8.
        let text = String(decoding: rest, as: UTF8.self)
        let tokenizer: Tokenizer
        do throws(TokenizationError) {
            tokenizer = try Tokenizer(definition)
        } catch {
            return try BrokenPromise.check(refusal: error.description, limit: 16 << 10)
        }
        for allowsControlTokens in [false, true] {
            let tokens: [Int32]
            do throws(TokenizationError) {
                tokens = try tokenizer.encode(text, allowsControlTokens: allowsControlTokens)
            } catch {
                try BrokenPromise.check(refusal: error.description, limit: 16 << 10)
                continue
            }
            try check(tokens, of: text, tokenizer, allowsControlTokens: allowsControlTokens)
            guard !definition.addsSpacePrefix, saysEveryByte(tokenizer) else { continue }
            let body = tokenizer.addsBOS ? tokens.dropFirst() : tokens[...]
            try BrokenPromise.check(spelled(body, tokenizer) == Array(text.utf8), "a text did not survive")
        }
    }

    private static func runFile(_ bytes: [UInt8]) throws(BrokenPromise) {
        let end = bytes.firstIndex(of: 0) ?? bytes.count
        let text = String(decoding: bytes[min(end + 1, bytes.count)...], as: UTF8.self)
        let tokenizer: Tokenizer
        do throws(TokenizationError) {
            tokenizer = try TokenizerFolder(["tokenizer.json": Array(bytes[..<end])]).tokenizer()
        } catch {
            try BrokenPromise.check(
                error.description.hasPrefix("tokenizer.json: "), "a refusal does not name the file: \(error)")
            return try BrokenPromise.check(refusal: error.description, limit: 16 << 10)
        }
        for allowsControlTokens in [false, true] {
            let tokens: [Int32]
            do throws(TokenizationError) {
                tokens = try tokenizer.encode(
                    text, allowsControlTokens: allowsControlTokens, addSpecialTokens: false)
            } catch {
                try BrokenPromise.check(refusal: error.description, limit: 16 << 10)
                continue
            }
            try check(tokens[...], tokenizer, allowsControlTokens: allowsControlTokens)
        }
    }

    // MARK: The definition

    private static func nextChange(_ rest: inout ArraySlice<UInt8>) -> (letter: UInt8, argument: ArraySlice<UInt8>)? {
        guard let letter = rest.first, "ncumtpbeasx".utf8.contains(letter), let end = rest.firstIndex(of: 0x0A),
            rest.dropFirst().first == 0x20 || rest.dropFirst().first == 0x0A
        else { return nil }
        defer { rest = rest[(end + 1)...] }
        return (letter, rest[rest.startIndex..<end].dropFirst(2))
    }

    private static func apply(_ change: (letter: UInt8, argument: ArraySlice<UInt8>), to it: inout TokenizerDefinition)
    {
        let text = String(decoding: change.argument, as: UTF8.self)
        func add(_ type: Int32) {
            it.pieces.append(change.argument)
            it.types.append(type)
        }
        switch Character(Unicode.Scalar(change.letter)) {
        case "n": add(1)
        case "c": add(3)
        case "u": add(4)
        case "m": it.merges.append(change.argument)
        case "t":
            let numbers = text.split(separator: " ").compactMap { Int32($0) }
            if numbers.count == 2, it.types.indices.contains(Int(numbers[0])) { it.types[Int(numbers[0])] = numbers[1] }
        case "p": it.preTokenizer = text
        case "b": it.bos = Int32(text)
        case "e": it.eos = Int32(text)
        case "a": it.addsBOS.toggle()
        case "s": it.addsSpacePrefix.toggle()
        default:
            it.pieces = PackedStrings(ByteVocabulary.pieces[256..<259])
            (it.merges, it.types) = (PackedStrings(), [3, 3, 3])
            (it.bos, it.eos) = (0, 2)
        }
    }

    // MARK: What is promised

    private static func check(
        _ tokens: [Int32], of text: String, _ tokenizer: Tokenizer, allowsControlTokens: Bool
    ) throws(BrokenPromise) {
        try BrokenPromise.check(tokens.allSatisfy(tokenizer.contains), "a token is not in the vocabulary")
        try check(
            tokenizer.addsBOS ? tokens.dropFirst() : tokens[...], tokenizer, allowsControlTokens: allowsControlTokens)
    }

    private static func check(
        _ body: ArraySlice<Int32>, _ tokenizer: Tokenizer, allowsControlTokens: Bool
    ) throws(BrokenPromise) {
        try BrokenPromise.check(body.allSatisfy(tokenizer.contains), "a token is not in the vocabulary")
        try BrokenPromise.check(
            allowsControlTokens || !body.contains { $0 != tokenizer.unk && tokenizer.isControl($0) },
            "a text became a control token")
        let whole: String
        var pieces = ""
        do throws(TokenizationError) {
            whole = try tokenizer.decode(body)
            var stream = StreamingDetokenizer(tokenizer)
            for token in body { pieces += stream.append(token) }
            pieces += stream.finish()
        } catch {
            throw BrokenPromise(description: "what was encoded cannot be decoded: \(error)")
        }
        try BrokenPromise.check(Array(whole.utf8) == Array(pieces.utf8), "a stream and a whole text differ")
    }

    private static func spelled(_ tokens: ArraySlice<Int32>, _ tokenizer: Tokenizer) -> [UInt8] {
        tokens.flatMap { tokenizer.bytes(of: $0) ?? [] }
    }

    private static func saysEveryByte(_ tokenizer: Tokenizer) -> Bool {
        tokenizer.vocabularyCount > 256
            && (Int32(0)..<256).allSatisfy { tokenizer.bytes(of: $0) == [UInt8($0)] && !tokenizer.isControl($0) }
    }
}
