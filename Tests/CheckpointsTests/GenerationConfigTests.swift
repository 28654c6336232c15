// generation_config.json: what is taken from it, and what is refused by its name.

import Checkpoints
import Testing

struct GenerationConfigTests {
    private func config(_ text: String) throws -> GenerationConfig {
        try GenerationConfig(json: Array(text.utf8), file: "generation_config.json", vocabSize: 100)
    }

    @Test func `the tokens that end an answer are one id or a list, each once`() throws {
        #expect(try config(#"{"eos_token_id": 2}"#).endTokens == [2])
        #expect(try config(#"{"eos_token_id": [7, 2, 7]}"#).endTokens == [7, 2])
        #expect(try config("{}").endTokens == [])
    }

    @Test func `the recommended sampling is taken, and what is not said is nil`() throws {
        let text = #"{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0, "do_sample": true}"#
        #expect(
            try config(text).defaults == GenerationDefaults(temperature: 0.6, topP: 0.95, minP: 0, topK: 20))
        #expect(try config("{}").defaults == GenerationDefaults())
    }

    @Test(arguments: [
        ("[]", "the text"), ("{", "the text"), (#"{"eos_token_id": 100}"#, "eos_token_id"),
        (#"{"eos_token_id": -1}"#, "eos_token_id"), (#"{"eos_token_id": "2"}"#, "eos_token_id"),
        (#"{"temperature": "warm"}"#, "temperature"), (#"{"top_p": 2}"#, "top_p"), (#"{"top_k": -7}"#, "top_k"),
    ])
    func `a wrong value is refused with the file and the field`(defect: (text: String, field: String)) {
        let error = #expect(throws: CheckpointError.self) { try config(defect.text) }
        #expect(error?.description.contains("generation_config.json") == true)
        #expect(error?.description.contains(defect.field) == true, "\(error?.description ?? "")")
    }
}
