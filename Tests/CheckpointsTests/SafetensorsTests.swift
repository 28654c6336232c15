// safetensors files, whole and in several parts: what is read, and the sentence for everything that is refused.

import Checkpoints
import Foundation
import Tensors
import Testing

/// A safetensors file of `header` and `data`.
func safetensors(_ header: String, data: [UInt8] = []) -> [UInt8] {
    let length = UInt64(header.utf8.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + Array(header.utf8) + data
}

/// Parses bytes as a safetensors file.
func parseSafetensors(
    _ bytes: [UInt8], limits: SafetensorsLimits = SafetensorsLimits()
) throws(CheckpointError) -> SafetensorsFile {
    try SafetensorsFile(MappedFile(copying: bytes, path: "test.safetensors"), limits: limits)
}

private func refusal(
    _ header: String, data: Int = 0, limits: SafetensorsLimits = SafetensorsLimits()
) -> CheckpointError? {
    do throws(CheckpointError) {
        _ = try parseSafetensors(safetensors(header, data: [UInt8](repeating: 0, count: data)), limits: limits)
        return nil
    } catch {
        return error
    }
}

struct SafetensorsTests {
    @Test func `tensors of every plain type are read from a file that Python wrote`() throws {
        let checkpoint = try SafetensorsCheckpoint(path: weightFixture("safetensors/plain"))
        #expect(Set(checkpoint.tensorNames) == ["single", "half", "brain", "scalar"])
        let expected = (0..<12).map { Float($0) * 0.5 - 2 }
        for name in ["single", "half", "brain"] {
            let tensor = try #require(checkpoint.storedTensor(name)).tensor
            #expect(tensor.shape == [3, 4] && tensor.dequantized() == expected)
        }
        #expect(try #require(checkpoint.storedTensor("scalar")).tensor.shape == [])
        #expect(checkpoint.storedTensor("absent") == nil)
        try checkpoint.requireUnchanged()
    }

    @Test func `an index joins its files`() throws {
        let checkpoint = try SafetensorsCheckpoint(path: weightFixture("safetensors/sharded"))
        #expect(Set(checkpoint.tensorNames) == Set((0..<4).map { "layer.\($0).weight" }))
        for index in 0..<4 {
            let tensor = try #require(checkpoint.storedTensor("layer.\(index).weight")).tensor
            #expect(tensor.dequantized() == (0..<6).map { Float(6 * index + $0) })
        }
        let one = weightFixture("safetensors/sharded/model-00001-of-00002.safetensors")
        #expect(try SafetensorsCheckpoint(path: one).tensorNames.count == 2)
    }

    @Test func `padding after the header and tensors without elements are allowed`() throws {
        let header =
            #"{"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}  "#
        let file = try parseSafetensors(safetensors(header, data: [1, 2, 3]))
        #expect(file.tensors.map(\.name) == ["a", "b"])
    }

    @Test(arguments: [
        (
            #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4,
            "expected 8 bytes, as its shape [2] of F32 has"
        ),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5, "where the last tensor ends"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "expected 0, where the tensor before it ends"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 3, "a range within the file's 3 bytes"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, "a range within the file's 4 bytes"),
        (#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4, "the dtype of tensor a is F33"),
        (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "the shape of tensor a is a list with -1"),
        (#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, 4, "a list with 1.5; expected integers from 0"),
        (#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#, 4, "more than 2^63 bytes"),
        (#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#, 4, "a list of at most 8"),
        (#"{"a":{"dtype":"F32","shape":[1]}}"#, 4, "tensor a is without data_offsets"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4, "described by x too"),
        (
            #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
            2,
            "occurs twice"
        ),
        (
            #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
            3,
            "expected 2, where the tensor before it ends"
        ),
        (#"{"__metadata__":{"a":1}}"#, 0, "a of __metadata__ is an integer; expected a string"),
        (#"{"a":[]}"#, 0, "expected an object with dtype, shape and data_offsets"),
        (#"{"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}}"#, 1, "nested more than 3 deep"),
        ("[1]", 0, "the header's first byte is 0x5b"),
        ("", 0, "the header's first byte is missing"),
    ])
    func `a header that contradicts itself or the file is refused`(header: String, data: Int, sentence: String) {
        let error = refusal(header, data: data)
        #expect(error?.description.contains(sentence) == true, "\(error?.description ?? "accepted")")
        #expect(error?.file == "test.safetensors" && error?.offset != nil)
    }

    @Test func `headers, tensors and names are limited`() throws {
        var limits = SafetensorsLimits()
        let header = #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
        limits.headerBytes = header.utf8.count
        #expect(refusal(header, data: 1, limits: limits) == nil)
        limits.headerBytes -= 1
        #expect(refusal(header, data: 1, limits: limits)?.field == "the length of the header")
        limits = SafetensorsLimits()
        let two =
            #"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#
        limits.tensorCount = 1
        #expect(refusal(two, limits: limits)?.field == "the tensor count")
        limits.tensorCount = 2
        #expect(refusal(two, limits: limits) == nil)
        limits = SafetensorsLimits()
        limits.nameBytes = 0
        #expect(
            refusal(header, data: 1, limits: limits)?.description.contains("a tensor's name is 1 bytes long") == true)
        #expect(throws: CheckpointError.self) { try parseSafetensors([1, 2, 3]) }
        #expect(throws: CheckpointError.self) { try parseSafetensors([UInt8](repeating: 0xFF, count: 64)) }
    }

    @Test(arguments: [
        [0x80, 2, 0x8A, 0x0A, 0, 0, 0, 0, 0], [0x80, 4, 0x95, 0, 0, 0, 0, 0, 0], [0x50, 0x4B, 3, 4, 0, 0, 8, 8, 0],
    ])
    func `a pickle is refused by its first bytes`(bytes: [UInt8]) {
        #expect {
            try parseSafetensors(bytes)
        } throws: {
            "\($0)".contains("which cannot run code when they are read") && "\($0)".contains("pickle")
        }
    }

    @Test(arguments: [
        "../model.safetensors", "/etc/passwd.safetensors", #"a\\b.safetensors"#, ".hidden.safetensors", "model.bin", "",
        "a b.safetensors",
    ])
    func `an index names plain files only`(name: String) {
        let text = #"{"weight_map":{"a":"\#(name)"}}"#
        #expect {
            try SafetensorsIndex(MappedFile(copying: Array(text.utf8), path: "test.json"))
        } throws: {
            "\($0)".contains("the file of a is") && "\($0)".contains("the plain name of a safetensors file")
        }
    }

    @Test func `an index and its files must agree`() throws {
        let header = #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
        let file = try parseSafetensors(safetensors(header, data: [7]))
        func refusal(_ map: String) throws -> String {
            let index = try SafetensorsIndex(
                MappedFile(
                    copying: Array(#"{"metadata":{"total_size":1},"weight_map":{\#(map)}}"#.utf8), path: "i.json"))
            do throws(CheckpointError) {
                _ = try SafetensorsCheckpoint(path: "folder", [file], index: index)
                return ""
            } catch {
                return error.description
            }
        }
        #expect(try refusal(#""a":"x.safetensors""#) == "")
        #expect(try refusal(#""b":"x.safetensors""#).contains("expected a file that has the tensor"))
        #expect(try refusal(#""a":"x.safetensors","b":"x.safetensors""#).contains("the file of b is"))
        #expect(throws: CheckpointError.self) {
            try SafetensorsIndex(MappedFile(copying: Array(#"{"weight_map":{}}"#.utf8), path: "i.json"))
        }
        #expect(throws: CheckpointError.missingMetadata(file: "i.json", key: "weight_map")) {
            try SafetensorsIndex(MappedFile(copying: Array("{}".utf8), path: "i.json"))
        }
        #expect(throws: CheckpointError.self) {
            try SafetensorsCheckpoint(path: "folder", [file, file], index: nil)
        }
    }

    @Test func `a folder without safetensors files is refused, a pickled one as such`() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-folder-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.path(percentEncoded: false)
        #expect { try SafetensorsCheckpoint(path: path) } throws: { "\($0)".contains("neither model.safetensors nor") }
        try Data([0x80, 2]).write(to: folder.appending(path: "pytorch_model.bin"))
        #expect { try SafetensorsCheckpoint(path: path) } throws: { "\($0)".contains("a Python pickle") }
        #expect { try SafetensorsCheckpoint(path: path + "/x") } throws: { "\($0)".contains("there is no such file") }
    }

    @Test func `10,000 mutations of a header are refused in a sentence or harmless`() throws {
        let original = try [UInt8](
            Data(contentsOf: URL(filePath: weightFixture("safetensors/plain/model.safetensors"))))
        let headerEnd = 8 + Int(original[0]) + Int(original[1]) << 8
        let words = [
            "F32", "BF16", "-1", "0", "99999999999999999999", "1e3", "null", "\"", "{", "}", "[", "]", ",", ":",
            "\\u0000",
        ]
        var generator = SplitMix64(state: 0xA907)
        var refused = 0
        for index in 0..<10_000 {
            var bytes = original
            let position = generator.below(headerEnd)
            switch index % 5 {
            case 0: for _ in 0...generator.below(4) { bytes[generator.below(headerEnd)] ^= 1 << generator.below(8) }
            case 1: bytes.removeSubrange(position..<min(position + 1 + generator.below(12), bytes.count))
            case 2: bytes.insert(contentsOf: words[generator.below(words.count)].utf8, at: position)
            case 3: bytes.removeLast(generator.below(bytes.count))
            default: bytes.replaceSubrange(position...position, with: words[generator.below(words.count)].utf8)
            }
            // Half of them keep a length that fits, so that what follows is looked at.
            if index % 2 == 0, bytes.count > 8 + original.count - headerEnd {
                let length = bytes.count - 8 - (original.count - headerEnd)
                for place in 0..<8 { bytes[place] = UInt8(truncatingIfNeeded: length >> (8 * place)) }
            }
            do throws(CheckpointError) {
                let checkpoint = try SafetensorsCheckpoint(path: "t", [parseSafetensors(bytes)], index: nil)
                for name in checkpoint.tensorNames { _ = checkpoint.storedTensor(name)?.tensor.dequantized() }
            } catch {
                refused += 1
                #expect(
                    error.file == "test.safetensors" && error.field != nil && error.offset != nil,
                    "case \(index): \(error)")
                #expect(error.description.utf8.count < 1_024, "case \(index)")
            }
        }
        #expect((8_000..<10_000).contains(refused), "\(refused) refused")
    }
}
