// What a tokenizer.json and its neighbours may not say: each defect is refused by a sentence with the file and the
// field, and no defect whatever is fatal.

import Foundation
import JSON
import Testing
import Tokenization

struct TokenizerFileTests {
    /// A family's file with one part of its text replaced.
    private static func changed(_ name: String, _ old: String, _ new: String) throws -> [UInt8] {
        let text = String(decoding: try FamilyTests.fixture(name + ".json"), as: UTF8.self)
        let range = try #require(text.range(of: old), "\(name) has no \(old)")
        return Array(text.replacingCharacters(in: range, with: new).utf8)
    }

    private static func refusal(_ bytes: [UInt8]) -> String? {
        do throws(TokenizationError) {
            _ = try TokenizerFolder(["tokenizer.json": bytes]).tokenizer()
            return nil
        } catch {
            return error.description
        }
    }

    static let defects: [(name: String, old: String, new: String, text: String)] = [
        ("llama3", #"(?i:'s"#, #"(a+)+(?i:'s"#, "tokenizer.json: pre_tokenizer.pretokenizers[0].pattern.Regex is "),
        (
            "llama3", #""type":"BPE""#, #""type":"WordPiece""#,
            "tokenizer.json: model.type is \"WordPiece\", which is not supported; BPE and Unigram are."
        ),
        (
            "qwen3", #""type":"NFC""#, #""type":"Precompiled""#,
            "tokenizer.json: normalizer.type is \"Precompiled\", which is not supported here."
        ),
        (
            "llama2", #""Prepend","prepend":"▁""#, #""Prepend","prepend":7"#,
            "tokenizer.json: normalizer.normalizers[0].prepend is not a string."
        ),
        (
            "llama3", #""id":701,"content":"<|end|>""#, #""id":5,"content":"<|end|>""#,
            "tokenizer.json: added_tokens[1] is \"<|end|>\" with the id 5, which another token has."
        ),
        ("gpt2", #"":5,"#, #"":6,"#, "tokenizer.json: model.vocab gives the id 6 to two pieces."),
        (
            "gpt2", #"":5,"#, #"":999999,"#,
            "tokenizer.json: model.vocab has ids up to 999999 for 702 pieces; they are not dense."
        ),
        ("gpt2", #"":5,"#, #"":-5,"#, "tokenizer.json: model.vocab is not JSON at byte "),
        (
            "gpt2", #""merges":[["#, #""merges":[["nowhere","to be"],["#,
            "tokenizer.json: model is refused. Merge 0 needs the piece \"nowhere\", which is not in the vocabulary."
        ),
        (
            "words", #""unk_token":"[UNK]""#, #""unk_token":"[NO]""#,
            "tokenizer.json: model.unk_token is \"[NO]\", which is not in the vocabulary."
        ),
        (
            "mistral", #""prepend_scheme":"first""#, #""prepend_scheme":"last""#,
            "tokenizer.json: pre_tokenizer.prepend_scheme is none of always, first and never."
        ),
        (
            "llama2", #""ids":[1]"#, #""ids":[-1]"#,
            "tokenizer.json: post_processor.special_tokens[\"<s>\"].ids has -1 in it, which is no id."
        ),
        ("llama2", #""ids":[1]"#, #""ids":[99999]"#, "tokenizer.json: model is refused. The added token has id 99999"),
    ]

    @Test(arguments: defects)
    func `a defect is refused with the file and the field`(
        defect: (name: String, old: String, new: String, text: String)
    ) throws {
        let refusal = try #require(Self.refusal(Self.changed(defect.name, defect.old, defect.new)))
        #expect(refusal.hasPrefix(defect.text), "\(refusal)")
    }

    @Test func `a file that is too large is refused unread`() {
        let refusal = Self.refusal([UInt8](repeating: 0x20, count: TokenizerFile.maxBytes + 1))
        #expect(refusal == "tokenizer.json: size is 67108865 bytes; at most 67108864 are accepted.")
    }

    @Test func `ten thousand mutations are each made into a tokenizer or refused in a sentence`() throws {
        let files = try ["llama3", "gemma", "unigram-bytes", "words"].map {
            [UInt8](try FamilyTests.fixture($0 + ".json"))
        }
        // The vocabularies are the files' bulk; what steers is at their beginning, so most mutations go there.
        var generator = SeededGenerator(state: 17)
        var (made, refused) = (0, 0)
        for round in 0..<10_000 {
            var bytes = files[round % files.count]
            let heads = bytes.firstRange(of: Array("\"vocab\"".utf8))?.lowerBound ?? bytes.count
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let end = Bool.random(using: &generator) ? heads : bytes.count
                let position = Int.random(in: 0..<min(end, bytes.count), using: &generator)
                switch Int.random(in: 0..<5, using: &generator) {
                case 0: bytes[position] = UInt8.random(in: .min ... .max, using: &generator)
                case 1: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 2: bytes.remove(at: position)
                case 3: bytes.insert("\"{}[]:,0-truenl\\".utf8.randomElement(using: &generator) ?? 0, at: position)
                default:
                    let length = min(Int.random(in: 1...40, using: &generator), bytes.count - position)
                    bytes.removeSubrange(position..<(position + length))
                }
            }
            do throws(TokenizationError) {
                let tokenizer = try TokenizerFolder(["tokenizer.json": bytes]).tokenizer()
                made += 1
                let ids = try tokenizer.encode("Swift  birds, 123 <s>▁é\u{301}\n\n☃", allowsControlTokens: true)
                #expect(ids.allSatisfy(tokenizer.contains))
                _ = try tokenizer.decode(ids)
            } catch {
                refused += 1
                #expect(error.description.hasPrefix("tokenizer.json: "), "round \(round): \(error)")
                #expect(error.description.utf8.count < 2048, "round \(round)")
            }
        }
        #expect(made > 100 && refused > 5_000, "\(made) made, \(refused) refused")
    }

    @Test func `the configuration names the tokens, the switches and the template`() throws {
        let file = [UInt8](try FamilyTests.fixture("llama2.json"))
        func folder(_ config: String, _ more: [String: String] = [:]) throws -> TokenizerFolder {
            var contents = more.mapValues { Array($0.utf8) }
            contents["tokenizer.json"] = file
            contents["tokenizer_config.json"] = Array(config.utf8)
            return try TokenizerFolder(contents)
        }
        let plain = try folder(#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "one"}"#)
        #expect(plain.definition.bos == 1 && plain.definition.eos == 2 && plain.chatTemplate == "one")
        #expect(try plain.tokenizer().prefix == [1])
        let without = try folder(
            #"{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false, "add_eos_token": true}"#)
        #expect(try without.tokenizer().prefix == [] && without.tokenizer().suffix == [2])
        let list = #"{"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]}"#
        #expect(try folder(list).chatTemplate == "b")
        #expect(try folder(list, ["chat_template.jinja": "c"]).chatTemplate == "c")
        #expect(try folder("{}", ["special_tokens_map.json": #"{"bos_token": "<s>"}"#]).definition.bos == 1)
        #expect(throws: TokenizationError.self) { try folder(#"{"bos_token": "<nowhere>"}"#) }
        #expect(throws: TokenizationError.self) { try folder(#"{"add_bos_token": true}"#).tokenizer() }
    }

    @Test func `a user's text may not spell the template's markup, and may spell what is none`() throws {
        let file = [UInt8](try FamilyTests.fixture("qwen3.json"))
        let template = "{{ '<think>' }}"
        let folder = try TokenizerFolder(["tokenizer.json": file, "chat_template.jinja": Array(template.utf8)])
        let tokenizer = try folder.tokenizer()
        let think = try #require(tokenizer.controlToken(spelled: "<think>"))
        let call = try #require(tokenizer.controlToken(spelled: "<tool_call>"))
        #expect(try tokenizer.encode("<think>", allowsControlTokens: true) == [think])
        #expect(try !tokenizer.encode("<think>").contains(think))
        #expect(try tokenizer.encode("<tool_call>") == [call])
    }
}
