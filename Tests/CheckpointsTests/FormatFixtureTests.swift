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
