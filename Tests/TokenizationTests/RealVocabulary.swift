// The vocabulary of the real model, read from the GGUF that `APUS_TEST_MODEL` names by a walk of its own, so that
// these tests need no other module. A trusting reader: the file is the project's own, checked by its hash.

import Foundation
import Tokenization

enum RealVocabulary {
    struct Missing: Error, CustomStringConvertible {
        let description = "APUS_TEST_MODEL does not name the test model's GGUF file. Run the tests with `make test`."
    }

    /// The tokenizer of the test model, made once for all tests.
    static let shared = Result { try Tokenizer(definition()) }

    static func tokenizer() throws -> Tokenizer { try shared.get() }

    static func definition() throws -> TokenizerDefinition {
        guard let path = ProcessInfo.processInfo.environment["APUS_TEST_MODEL"],
            let file = FileManager.default.contents(atPath: path)
        else { throw Missing() }
        var reader = GGUFWalk(bytes: file.prefix(1 << 24), position: 4 + 4 + 8)
        var definition = TokenizerDefinition(
            model: "", preTokenizer: "default", pieces: PackedStrings(), merges: PackedStrings(), types: [])
        for _ in 0..<reader.integer(UInt64.self) {
            let key = String(decoding: reader.string(), as: UTF8.self)
            let type = reader.integer(UInt32.self)
            switch key {
            case "tokenizer.ggml.model": definition.model = String(decoding: reader.string(), as: UTF8.self)
            case "tokenizer.ggml.pre": definition.preTokenizer = String(decoding: reader.string(), as: UTF8.self)
            case "tokenizer.ggml.tokens": definition.pieces = reader.strings()
            case "tokenizer.ggml.merges": definition.merges = reader.strings()
            case "tokenizer.ggml.token_type": definition.types = reader.integers()
            case "tokenizer.ggml.bos_token_id": definition.bos = reader.integer(Int32.self)
            case "tokenizer.ggml.eos_token_id": definition.eos = reader.integer(Int32.self)
            case "tokenizer.ggml.unknown_token_id": definition.unk = reader.integer(Int32.self)
            case "tokenizer.ggml.padding_token_id": definition.pad = reader.integer(Int32.self)
            case "tokenizer.ggml.add_bos_token": definition.addsBOS = reader.integer(UInt8.self) != 0
            case "tokenizer.ggml.add_space_prefix": definition.addsSpacePrefix = reader.integer(UInt8.self) != 0
            default: reader.skip(type)
            }
        }
        return definition
    }
}

/// A cursor over GGUF metadata.
private struct GGUFWalk {
    let bytes: Data
    var position: Int

    mutating func integer<T: FixedWidthInteger>(_: T.Type) -> T {
        var value: T = 0
        for byte in bytes[position..<(position + MemoryLayout<T>.size)].reversed() { value = value << 8 | T(byte) }
        position += MemoryLayout<T>.size
        return value
    }

    mutating func string() -> Data {
        let count = Int(integer(UInt64.self))
        position += count
        return bytes[(position - count)..<position]
    }

    mutating func strings() -> PackedStrings {
        var strings = PackedStrings()
        _ = integer(UInt32.self)
        for _ in 0..<integer(UInt64.self) { strings.append(string()) }
        return strings
    }

    mutating func integers() -> [Int32] {
        _ = integer(UInt32.self)
        return (0..<integer(UInt64.self)).map { _ in integer(Int32.self) }
    }

    mutating func skip(_ type: UInt32) {
        switch type {
        case 0, 1, 7: position += 1
        case 2, 3: position += 2
        case 4, 5, 6: position += 4
        case 8: _ = string()
        case 9:
            let element = integer(UInt32.self)
            for _ in 0..<integer(UInt64.self) { skip(element) }
        default: position += 8
        }
    }
}
