// The byte strings of the real model's tokens, read from the GGUF that `APUS_TEST_MODEL` names by a walk of its own, so
// that these tests need no other module. A trusting reader: the file is the project's own, checked by its hash.

import Foundation
import Grammars

enum RealVocabulary {
    struct Missing: Error, CustomStringConvertible {
        let description = "APUS_TEST_MODEL does not name the test model's GGUF file. Run the tests with `make test`."
    }

    /// The trie of the test model's vocabulary, made once for all tests. Token 2 ends a text.
    static let trie = Result { TokenTrie(tokens: try tokens(), endTokens: [2]) }

    /// The bytes of each token; nil for control tokens.
    static func tokens() throws -> [[UInt8]?] {
        guard let path = ProcessInfo.processInfo.environment["APUS_TEST_MODEL"],
            let file = FileManager.default.contents(atPath: path)
        else { throw Missing() }
        var walk = Walk(bytes: [UInt8](file.prefix(1 << 23)), position: 16)
        var pieces: [[UInt8]] = []
        var types: [Int] = []
        for _ in 0..<walk.integer(8) {
            let key = String(decoding: walk.string(), as: UTF8.self)
            let type = walk.integer(4)
            switch key {
            case "tokenizer.ggml.tokens":
                walk.position += 4
                pieces = (0..<walk.integer(8)).map { _ in walk.string() }
            case "tokenizer.ggml.token_type":
                walk.position += 4
                types = (0..<walk.integer(8)).map { _ in walk.integer(4) }
            default: walk.skip(type)
            }
        }
        return zip(pieces, types).map { piece, type in type == 1 ? decoded(piece) : nil }
    }

    /// GPT-2's spelling of bytes: printable Latin-1 stands for itself, the others for 256 and up in order.
    private static func decoded(_ piece: [UInt8]) -> [UInt8] {
        String(decoding: piece, as: UTF8.self).unicodeScalars.map { byteOfScalar[$0.value] ?? 0 }
    }

    private static let byteOfScalar: [UInt32: UInt8] = {
        var result: [UInt32: UInt8] = [:]
        var next: UInt32 = 256
        for byte in UInt8.min...UInt8.max {
            if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE {
                result[UInt32(byte)] = byte
            } else {
                result[next] = byte
                next += 1
            }
        }
        return result
    }()

    private struct Walk {
        let bytes: [UInt8]
        var position: Int

        mutating func integer(_ count: Int) -> Int {
            position += count
            return bytes[(position - count)..<position].reversed().reduce(0) { $0 << 8 | Int($1) }
        }

        mutating func string() -> [UInt8] {
            let count = integer(8)
            position += count
            return Array(bytes[(position - count)..<position])
        }

        mutating func skip(_ type: Int) {
            switch type {
            case 0, 1, 7: position += 1
            case 2, 3: position += 2
            case 4, 5, 6: position += 4
            case 8: _ = string()
            case 9:
                let element = integer(4)
                for _ in 0..<integer(8) { skip(element) }
            default: position += 8
            }
        }
    }
}
