// The catalog: what is compiled in is sound, and what could become a path or an argument is checked.

import Foundation
import Models
import Testing

@Suite struct PullCatalogTests {
    private static let document = """
        {"name": "tiny", "aliases": ["small"], "description": "d", "architecture": "llama", "parameterCount": 1,
         "quantization": "F32", "license": "MIT", "contextLength": 8, "files": [{"name": "m.gguf", "byteCount": 1,
         "sha256": "\(String(repeating: "a", count: 64))", "sources": [{"kind": "pypi-wheel", "parts": [
         {"package": "tiny", "version": "1.0", "member": "pkg/m.gguf", "byteCount": 1}]}]}]}
        """

    @Test func `the embedded catalog is sound and has the default model`() throws {
        let catalog = try Catalog.embedded()
        let entry = try #require(catalog["smollm2-135m-instruct"])
        #expect(catalog["SmolLM2"] == entry)
        #expect(catalog["none"] == nil)
        #expect(entry.files[0].byteCount == 98_362_432)
        #expect(entry.files[0].sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
    }

    @Test(arguments: [
        ("\"m.gguf\"", "\"../m.gguf\"", "a plain file name"), ("\"m.gguf\"", "\".m.gguf\"", "a plain file name"),
        ("\"m.gguf\"", "\"\"", "a plain file name"), ("\"name\": \"tiny\"", "\"name\": \"Tiny\"", "lowercase letters"),
        ("\"name\": \"tiny\"", "\"name\": \"a/b\"", "lowercase letters"),
        ("aaaa\"", "aaaA\"", "64 lowercase hexadecimal digits"), ("aaaa\"", "aaa\"", "64 lowercase hexadecimal digits"),
        ("\"package\": \"tiny\"", "\"package\": \"--index\"", "a package name"),
        ("\"1.0\"", "\"1.0 ; x\"", "a version"), ("pkg/m.gguf", "/etc/m.gguf", "a relative path of plain names"),
        ("pkg/m.gguf", "pkg/../m.gguf", "a relative path of plain names"),
        ("\"parameterCount\": 1", "\"parameterCount\": 0", "a positive number"),
        ("[\"small\"]", "[\"tiny\"]", "a name no other entry has"), ("pypi-wheel", "url", "not what it should be"),
        (
            #"{"package": "tiny", "version": "1.0", "member": "pkg/m.gguf", "byteCount": 1}"#, "",
            "1 to 64 parts"
        ),
    ])
    func `an entry that could do harm is refused`(original: String, replacement: String, sentence: String) {
        let text = Self.document.replacingOccurrences(of: original, with: replacement)
        #expect(text != Self.document)
        let error = #expect(throws: CatalogError.self) { try Catalog(documents: [Array(text.utf8)]) }
        #expect(error?.description.contains(sentence) == true, "\(String(describing: error))")
    }

    @Test func `the document above is accepted`() throws {
        #expect(try Catalog(documents: [Array(Self.document.utf8)])["small"]?.name == "tiny")
    }
}
