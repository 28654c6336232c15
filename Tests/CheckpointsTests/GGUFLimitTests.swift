// Every limit of the GGUF parser, at the limit and one beyond it, with the sentence the operator sees.

import Checkpoints
import Testing

/// The error of parsing what `change` makes of a tiny model, or nil when it parses.
private func refusal(
    limits: GGUFLimits = GGUFLimits(), _ change: (inout GGUFWriter) -> Void
) -> CheckpointError? {
    var writer = GGUFWriter.tinyLlama()
    change(&writer)
    do {
        _ = try parse(writer.write(), limits: limits)
        return nil
    } catch let error as CheckpointError {
        return error
    } catch {
        Issue.record("not a CheckpointError: \(error)")
        return nil
    }
}

@Suite struct GGUFLimitTests {
    @Test(arguments: [2, 3] as [UInt32])
    func `versions 2 and 3 are read`(version: UInt32) throws {
        var writer = GGUFWriter.tinyLlama()
        writer.version = version
        let file = try parse(writer.write())
        #expect(file.version == version)
        #expect(file.tensors.count == 20)
        #expect(file.tensorInfo("blk.0.attn_k.weight")?.shape == [16, 32])
        #expect(try ModelConfig(file).layerCount == 2)
    }

    @Test(arguments: [0, 1, 4, .max] as [UInt32])
    func `other versions are refused`(version: UInt32) {
        #expect(
            refusal { $0.version = version }?.description
                == "test.gguf cannot be served: at byte 4, the version is \(version), which is not supported; "
                + "supported: 2 and 3, little-endian.")
    }

    @Test func `a big-endian file is named as such`() {
        #expect(refusal { $0.version = UInt32(3).byteSwapped }?.description.contains("3 in big-endian order") == true)
    }

    @Test func `a file of another kind is refused by its magic number`() throws {
        var bytes = GGUFWriter.tinyLlama().withBytes()
        bytes[0] = 0x80
        #expect(
            throws: CheckpointError.malformed(
                file: "test.gguf", offset: 0, field: "the magic number", actual: "0x80475546",
                expected: "0x47475546, \"GGUF\"")
        ) { try parse(bytes) }
    }

    @Test func `counts are limited`() {
        var limits = GGUFLimits()
        limits.metadataCount = 22
        limits.tensorCount = 20
        #expect(refusal(limits: limits) { _ in } == nil)
        limits.metadataCount = 21
        #expect(
            refusal(limits: limits) { _ in }
                == .overLimit(
                    file: "test.gguf", offset: 16, field: "the metadata count", actual: 22, limit: 21))
        limits.metadataCount = 22
        limits.tensorCount = 19
        #expect(
            refusal(limits: limits) { _ in }
                == .overLimit(
                    file: "test.gguf", offset: 8, field: "the tensor count", actual: 20, limit: 19))
    }

    @Test(arguments: [16_385, 1 << 31, 1 << 63, .max] as [UInt64])
    func `absurd metadata counts are refused before anything is allocated`(count: UInt64) {
        #expect(refusal { $0.metadataCount = count }?.field == "the metadata count")
    }

    @Test func `a count the file has no room for is refused`() {
        #expect(
            refusal { $0.tensorCount = 99_999 }?.description.contains("which is what the file has room for") == true)
    }

    @Test func `keys have at most 65,535 bytes and are not empty`() {
        let key = String(repeating: "k", count: 65_535)
        #expect(refusal { $0.set(key, .u8(1)) } == nil)
        #expect(refusal { $0.set(key + "k", .u8(1)) }?.field == "the length of the key of metadata entry 22")
        #expect(refusal { $0.set("", .u8(1)) }?.description.contains("is empty; expected a name") == true)
    }

    @Test func `strings have at most a mebibyte`() {
        let text = String(repeating: "s", count: 1 << 20)
        #expect(refusal { $0.set("x", .string(text)) } == nil)
        #expect(
            refusal { $0.set("x", .string(text + "s")) }?.description.contains(
                "the length of x is 1048577, above the limit of 1048576") == true)
        #expect(refusal { $0.set("x", .strings([text])) } == nil)
        #expect(
            refusal { $0.set("x", .strings(["", text + "s"])) }?.field
                == "the length of element 1 of the array x")
    }

    @Test func `chat templates have at most 256 KiB`() {
        let text = String(repeating: "t", count: 256 << 10)
        #expect(refusal { $0.set("tokenizer.chat_template", .string(text)) } == nil)
        #expect(
            refusal { $0.set("tokenizer.chat_template", .string(text + "t")) }?.field
                == "the length of tokenizer.chat_template")
        #expect(
            refusal { $0.set("tokenizer.chat_template.tools", .string(text + "t")) }?.field
                == "the length of tokenizer.chat_template.tools")
    }

    @Test func `arrays are limited and not nested`() {
        var limits = GGUFLimits()
        limits.arrayElements = 4
        #expect(refusal(limits: limits) { _ in } == nil)
        limits.arrayElements = 3
        #expect(refusal(limits: limits) { _ in }?.field == "the length of the array tokenizer.ggml.tokens")
        #expect(refusal { $0.set("x", .nested) }?.description.contains("is an array of arrays") == true)
    }

    @Test func `strings are UTF-8 and booleans are 0 or 1`() throws {
        var bytes = GGUFWriter.tinyLlama().withBytes()
        let position = try #require(bytes.firstRange(of: Array("Tiny".utf8))?.lowerBound)
        bytes[position] = 0xFF
        #expect(
            throws: CheckpointError.malformed(
                file: "test.gguf", offset: position, field: "general.name", actual: "not UTF-8", expected: "UTF-8 text")
        ) { try parse(bytes) }
        #expect(refusal { $0.set("x", .bool(1)) } == nil)
        #expect(refusal { $0.set("x", .bool(2)) }?.description.contains("x is 2; expected 0 or 1") == true)
    }

    @Test func `duplicate keys and tensors are refused`() {
        #expect(
            refusal { $0.metadata.append(("general.name", .string("again"))) }?.description
                .contains("metadata general.name is there twice; expected one value per key") == true)
        #expect(
            refusal { $0.tensors.append(GGUFWriter.tensor("output_norm.weight", [32])) }?.description
                .contains("tensor output_norm.weight is there twice") == true)
    }

    @Test(arguments: [8, 16, 32, 64, 4096])
    func `alignments are powers of two from 8 to 4096`(alignment: Int) {
        #expect(
            refusal {
                $0.alignment = alignment
                $0.set("general.alignment", .u32(UInt32(alignment)))
            } == nil)
    }

    @Test(arguments: [0, 1, 4, 7, 9, 24, 8192, 1 << 31])
    func `other alignments are refused`(alignment: UInt32) {
        #expect(
            refusal { $0.set("general.alignment", .u32(alignment)) }?.description
                .contains("general.alignment is \(alignment); expected a power of two from 8 to 4096") == true)
    }

    @Test func `tensors have one to four dimensions, none of them zero`() {
        #expect(refusal { $0.tensors.append(GGUFWriter.tensor("t", [1, 2, 1, 8])) } == nil)
        #expect(
            refusal { $0.tensors.append(GGUFWriter.tensor("t", [1, 1, 2, 1, 8])) }?.description
                .contains("the dimension count of tensor t is 5; expected 1 to 4") == true)
        #expect(refusal { $0.tensors.append(GGUFWriter.tensor("t", [])) }?.field == "the dimension count of tensor t")
        #expect(refusal { $0.tensors.append(GGUFWriter.tensor("t", [0, 8])) }?.field == "dimension 1 of tensor t")
    }

    @Test func `sizes that overflow are refused`() {
        let huge = GGUFWriter.TensorSpec(name: "t", shape: [1 << 31, 1 << 31, 2])
        #expect(
            refusal { $0.tensors.append(huge) }?.description.contains("expected an element count below 2^63") == true)
        let wide = GGUFWriter.TensorSpec(name: "t", shape: [1 << 31, 1 << 31])
        #expect(refusal { $0.tensors.append(wide) }?.field == "the row length of tensor t")
        let negative = GGUFWriter.TensorSpec(name: "t", shape: [-1])
        #expect(refusal { $0.tensors.append(negative) }?.field == "dimension 0 of tensor t")
    }

    @Test func `tensor names have at most 64 bytes`() {
        let name = String(repeating: "n", count: 64)
        #expect(refusal { $0.tensors.append(GGUFWriter.tensor(name, [8])) } == nil)
        #expect(
            refusal { $0.tensors.append(GGUFWriter.tensor(name + "n", [8])) }?.field
                == "the length of the name of tensor 20")
    }

    @Test func `an unsupported tensor type is refused by name`() {
        #expect(
            refusal { $0.tensors.append(GGUFWriter.tensor("blk.0.x.weight", [256], type: 18)) }?.description
                .hasSuffix(
                    "the type of tensor blk.0.x.weight is IQ3_XXS, which is not supported; supported: F32, F16, BF16, "
                        + "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4.") == true)
        #expect(
            refusal { $0.tensors.append(GGUFWriter.tensor("t", [8], type: 26)) }?.description.contains("is I32") == true
        )
        #expect(
            refusal { $0.tensors.append(GGUFWriter.tensor("t", [8], type: 999)) }?.description
                .contains("is number 999") == true)
    }

    @Test func `rows of quantized tensors are whole blocks`() {
        var odd = GGUFWriter.tensor("t", [2, 32], type: 3)
        odd.shape = [2, 33]
        #expect(
            refusal { $0.tensors.append(odd) }?.description
                .contains("the row length of tensor t is 33; expected a multiple of 32, the block of Q4_1") == true)
    }

    @Test(arguments: [1, 31, 33, 96, 1 << 40, .max] as [UInt64])
    func `a tensor anywhere but after the one before it is refused`(offset: UInt64) {
        #expect(refusal { $0.tensors[1].offset = offset }?.description.contains("the offset of tensor") == true)
    }

    @Test func `the file ends with its last tensor, give or take the padding`() {
        #expect(
            refusal {
                $0.tensors.append(GGUFWriter.tensor("t", [1])); $0.trailing = 28
            } == nil)
        #expect(
            refusal {
                $0.tensors.append(GGUFWriter.tensor("t", [1])); $0.trailing = 29
            }?.field
                == "the file's size")
        var short = GGUFWriter.tensor("t", [64])
        short.bytes = [UInt8](repeating: 0, count: 255)
        #expect(
            refusal { $0.tensors.append(short) }?.description
                .contains("the size of tensor t is 256; expected at most 255, which is what the file holds from there")
                == true)
    }

    @Test func `control characters in names do not reach the message`() {
        let message = refusal { $0.tensors.append(GGUFWriter.tensor("a\u{1B}[31m\n", [8], type: 12)) }?.description
        #expect(message?.contains("a\\u{1b}[31m\\u{a}") == true)
    }
}

extension GGUFWriter {
    /// The bytes of the file.
    func withBytes() -> [UInt8] {
        var copy = self
        return copy.write()
    }
}
