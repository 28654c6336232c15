// Every GGUF type as the `gguf` Python package writes and decodes it, bit for bit (Tests/Fixtures/weights/make_gguf.py).

import Checkpoints
import Foundation
import Tensors
import Testing

/// The path of a file under Tests/Fixtures/weights.
func weightFixture(_ name: String) -> String {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fixtures/weights").appending(path: name).path(percentEncoded: false)
}

struct FormatFixtureTests {
    @Test(arguments: [
        "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl",
        "iq4_xs",
        "mxfp4",
    ])
    func `a type's blocks decode to the reference's bits`(name: String) throws {
        let file = try GGUFFile(path: weightFixture("gguf/formats.gguf"))
        let stored = try #require(file.storedTensor(name)).tensor
        let expected = try #require(file.storedTensor("\(name).values")).tensor
        #expect(stored.dtype.rawValue == name)
        #expect(stored.shape == [3, 512] && expected.shape == [3, 512])
        #expect(stored.dequantized().map(\.bitPattern) == expected.dequantized().map(\.bitPattern))
    }
}

struct SplitFileTests {
    @Test func `the first of three parts opens all of them`() throws {
        let file = try GGUFFile(path: weightFixture("gguf/split-00001-of-00003.gguf"))
        #expect(file.tensorNames == (0..<5).map { "tensor.\($0)" })
        for index in 0..<5 {
            let tensor = try #require(file.storedTensor("tensor.\(index)")).tensor
            #expect(tensor.dequantized() == (0..<8).map { Float(8 * index + $0) })
        }
        #expect(try file.integer("llama.block_count", in: 0...9) == 1)
        try file.requireUnchanged()
    }

    @Test func `another part is refused, and the sentence names the first`() {
        #expect(throws: CheckpointError.self) {
            try GGUFFile(path: weightFixture("gguf/split-00002-of-00003.gguf"))
        }
        do {
            _ = try GGUFFile(path: weightFixture("gguf/split-00002-of-00003.gguf"))
        } catch {
            #expect(error.field == "split.no")
            #expect(error.description.contains("split.no is 1; expected 0, the first part, which is the one to name"))
        }
    }

    @Test func `a part that is missing, misnamed or of another model is refused`() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-split-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func copy(_ from: String, _ to: String) throws {
            try FileManager.default.copyItem(
                atPath: weightFixture("gguf/\(from)"), toPath: folder.appending(path: to).path(percentEncoded: false))
        }
        func refusal() -> CheckpointError? {
            let path = folder.appending(path: "m-00001-of-00003.gguf").path(percentEncoded: false)
            do throws(CheckpointError) {
                _ = try GGUFFile(path: path)
                return nil
            } catch {
                return error
            }
        }
        try copy("split-00001-of-00003.gguf", "m-00001-of-00003.gguf")
        guard case .cannotOpen(let file, _)? = refusal() else {
            Issue.record("a missing part was not noticed")
            return
        }
        #expect(file.hasSuffix("m-00002-of-00003.gguf"))
        try copy("split-00003-of-00003.gguf", "m-00002-of-00003.gguf")
        try copy("split-00002-of-00003.gguf", "m-00003-of-00003.gguf")
        #expect(refusal()?.field == "split.no")
        try copy("split-00001-of-00003.gguf", "whole.gguf")
        #expect(throws: CheckpointError.self) {
            try GGUFFile(path: folder.appending(path: "whole.gguf").path(percentEncoded: false))
        }
    }
}
